"""The models that travel with AIDB: one provider a file, each named by an entry point of ``aidb.models``.

Nothing heavy is imported here, or by importing a provider: a runtime (torch, onnxruntime, OpenCV) is imported when a
model is loaded, and its absence is reported with the extra that brings it.
"""
