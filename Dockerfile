# X2I Studio in a container, for the CPU or, with --build-arg DEVICE=cuda, for NVIDIA GPUs.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
# OpenMP's threads sleep while they wait, and leave the cores to other processes. `docker run --env` can change it.
ENV OMP_WAIT_POLICY=PASSIVE

# The largest layers come first, because they change least. PyPI's PyTorch includes CUDA, most of its size.
ARG DEVICE=cpu
RUN case "$DEVICE" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "DEVICE is '$DEVICE'; choose cpu or cuda." >&2; exit 1 ;; \
    esac && pip install --index-url "$index" "torch>=2.9" "torchvision>=0.24"
RUN --mount=source=requirements.txt,target=/tmp/requirements.txt pip install -r /tmp/requirements.txt
RUN --mount=source=.,target=/tmp/x2i pip install --no-deps /tmp/x2i

# One volume has the weights, the other one the output of `generate` and `batch`.
RUN useradd --create-home --uid 1000 x2i && install --directory --owner=1000 --group=1000 /weights /outputs
USER 1000
WORKDIR /outputs
VOLUME ["/weights", "/outputs"]

ENV HF_HOME=/weights/huggingface XDG_CACHE_HOME=/weights/cache MPLCONFIGDIR=/weights/cache/matplotlib X2I_HOST=0.0.0.0 X2I_PORT=7860
EXPOSE 7860
# Healthy while the model loads or is ready; unhealthy if the engine failed or the page does not respond.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"X2I_PORT\"]}/health', timeout=9)"]

# Nothing is written outside the two volumes and /tmp, so that `docker run --read-only --tmpfs /tmp` works. On Docker's
# SIGTERM the app tells its users, and ends within the 10 s that Docker waits.
ENTRYPOINT ["x2i"]
CMD ["app"]
