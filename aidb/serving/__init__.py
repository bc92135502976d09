"""A server for models: ``aidb serve-models`` hosts any registered provider behind the Open Inference Protocol v2.

A request's way: `guard` (token, limits) -> `app` (routes) -> `arguments` (which tensor is which input) -> `batcher`
(requests wait for each other) -> `pool` (a thread for each worker) -> `worker` (a process with the model on its device)
and back. The engine's own `aidb.exec.inference` runs the model there, so items that fail, or too large a batch, are
treated as they would be in process.
"""
