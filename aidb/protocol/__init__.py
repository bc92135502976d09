"""The Open Inference Protocol (KServe v2), as our server and our client both speak it: messages, tensors, columns."""
