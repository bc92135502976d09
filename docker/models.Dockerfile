# A server for models (docs/serving.md). EXTRAS says which runtimes are in it: "serve,opencv,onnx" for a machine without a
# GPU, "serve,opencv,onnx,ultralytics,embedding" brings torch with CUDA. The driver comes from the machine.
FROM python:3.11-slim
ARG EXTRAS=serve,opencv,onnx
WORKDIR /opt/aidb
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY aidb aidb
COPY connectors connectors
COPY models models
RUN pip install --no-cache-dir ".[${EXTRAS}]" -c constraints.txt \
 && pip install --no-cache-dir --force-reinstall --no-deps opencv-python-headless -c constraints.txt \
 && useradd --create-home aidb
COPY docker/models.toml /etc/aidb/models.toml
USER aidb
WORKDIR /models
ENV HOME=/tmp YOLO_CONFIG_DIR=/tmp YOLO_AUTOINSTALL=false
EXPOSE 8000
ENTRYPOINT ["aidb", "serve-models", "/etc/aidb/models.toml", "--host", "0.0.0.0"]
