# ugs_jax for NVIDIA GPUs. Untried so far: no machine with Docker was at hand.
#
#   docker build -t ugs_jax .
#   docker run --rm --gpus all -v "$PWD:/data" ugs_jax env
#   docker run --rm --gpus all -v "$PWD:/data" ugs_jax train --data data.yaml
#
# For CPUs: docker build --build-arg EXTRA= -t ugs_jax .
FROM python:3.12-slim

ARG EXTRA=[cuda13]
COPY . /opt/ugs_jax
RUN pip install --no-cache-dir "/opt/ugs_jax${EXTRA}" && rm -r /opt/ugs_jax
ENV UGS_CACHE=/data/.ugs_cache
WORKDIR /data
ENTRYPOINT ["ugs"]
