# To pin it by digest: --build-arg NODE_IMAGE=node@sha256:...
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

# What it makes is JavaScript alone, for every platform. The classic builder has no BUILDPLATFORM: there it is the machine's.
FROM --platform=${BUILDPLATFORM:-linux} ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json LICENSE ./
COPY page page
COPY proto proto
COPY src src
RUN npm run build \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
 && rm -rf src tsconfig*.json package-lock.json node_modules/.package-lock.json \
 && find node_modules -name '*.map' -delete

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="site-persistence" \
      org.opencontainers.image.description="Sends every request to the site that owns its session: an ext_proc sidecar for Envoy" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
COPY --from=build /app /app
# For envoy.config_dir: an empty volume there gets its owner.
RUN install -d -o 1000 -g 1000 /etc/envoy/site-persistence
# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 1000:1000
# The commands look for site.yaml where they are run.
WORKDIR /etc/site-persistence
# Ready: it decides, and knows the health of its Envoy's pools.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=2 \
  CMD ["node", "/app/dist/main.js", "status", "--ready"]
# Without a limit Node takes 300 MB for what 120 MB do: V8 collects garbage by how much it may take.
ENTRYPOINT ["node", "--max-semi-space-size=4", "--max-old-space-size=512", "/app/dist/main.js"]
CMD ["serve"]
