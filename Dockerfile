# casnode as an image of one static binary. With a registry at hand:
#
#   docker build -t casnode:local .
#
# Without one, scripts/cluster.sh builds the binary on the host and makes the image from the last stage
# below alone, which needs no base image.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# Linked statically: the image holds no C library. An explicit --target keeps the flag away from build
# scripts and procedural macros, which cannot be static.
RUN set -eu; \
    target="$(rustc -vV | sed -n 's/^host: //p')"; \
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --profile dist --package casnode-cli --target "$target"; \
    mkdir -p /image/bin /image/own/data /image/own/tmp; \
    chmod 0700 /image/own/*; \
    cp "target/$target/dist/casnode" /image/bin/

FROM scratch
# There is no /etc/passwd: the user is a number, and owns the data and a place for temporary files.
COPY --from=build /image/bin /usr/local/bin
COPY --from=build --chown=10001:10001 /image/own /
USER 10001:10001
ENV CASNODE_DATA_DIR=/data
# Where `casnode get` without -o writes to; not the volume, whose files are the store's.
WORKDIR /tmp
VOLUME /data
EXPOSE 4101/tcp 4101/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=4 \
    CMD ["/usr/local/bin/casnode", "--data-dir", "/data", "status"]
ENTRYPOINT ["/usr/local/bin/casnode"]
CMD ["daemon"]
