FROM node:24-bookworm-slim AS build
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

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="site-persistence" \
      org.opencontainers.image.description="Sends every request to the site that owns its session: an ext_proc sidecar for Envoy" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
COPY --from=build /app /app
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
