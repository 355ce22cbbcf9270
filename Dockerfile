# Two plain stages: a static binary, and nothing beside it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o /nearside .
# A volume takes over who owns the folder it is mounted on.
RUN mkdir /data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /nearside /nearside
COPY --from=build --chown=65532:65532 /data /data
COPY config.json5 /etc/nearside/config.json5
ENV NEARSIDE_CONFIG=/etc/nearside/config.json5 NEARSIDE_DATA=/data
USER 65532:65532
VOLUME /data
EXPOSE 4141
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/nearside", "health"]
ENTRYPOINT ["/nearside"]
# Whoever can reach the published port needs a key. The first start makes one and
# shows it (docs/docker.md).
CMD ["serve", "--listen", "0.0.0.0:4141", "--first-key"]
