# syntax=docker/dockerfile:1
FROM python:3.11.9-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY kvproxy kvproxy
COPY providers providers
RUN python -m venv /opt/kvproxy && /opt/kvproxy/bin/pip install --no-cache-dir . \
    && /opt/kvproxy/bin/python -c "import kvproxy.http._scan"

FROM python:3.11.9-slim-bookworm
ARG KVPROXY_BUILD=image
ENV KVPROXY_BUILD=$KVPROXY_BUILD PATH=/opt/kvproxy/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --create-home --home-dir /var/lib/kvproxy kvproxy
COPY --from=build /opt/kvproxy /opt/kvproxy
USER kvproxy
WORKDIR /var/lib/kvproxy
VOLUME /var/lib/kvproxy
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["kvproxy"]
CMD ["run", "--embedded", "--embedded.path=/var/lib/kvproxy/store.db", "--stateDir=/var/lib/kvproxy/state", "--entryPoints=Name:http Address::8080"]
