# Targets for people and CI. "make test" is the one that CI runs.
GO ?= go
BIN ?= bin/nearside

.PHONY: help build test test-go test-clients test-docker check fmt vet lint fuzz bench soak wall wall-full run clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## build the binary
	$(GO) build -trimpath -o $(BIN) .

run: ## run the proxy on the shipped configuration
	$(GO) run . serve

test: ## everything CI does: format, vet, all Go tests with the race detector, the Node clients, the image's build line
	./scripts/test.sh

test-go: ## the Go tests alone, with the race detector
	$(GO) test -race -timeout 15m ./...
	$(GO) test -timeout 5m ./upstream/direct # the race detector's builds go another way

test-clients: ## official clients through the real binary (Node SDKs, Codex, Claude Code, opencode, OpenClaw; installs them, 1.8 GB)
	./scripts/clients.sh
	./scripts/codex.sh
	./scripts/agents.sh

test-docker: ## what can be checked of the image without an engine
	./scripts/image.sh

check: fmt vet lint test ## all of it

fmt: ## fail when gofmt would change something
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }

vet:
	$(GO) vet ./...

lint: ## golangci-lint; installs the pinned version when it is missing
	./scripts/lint.sh

fuzz: ## ten seconds of each fuzz target
	./scripts/fuzz.sh

bench: build ## ratios beside a bare fasthttp relay, in one run, and the Go benchmarks
	./scripts/bench.sh

wall: ## the 16 failure scenarios: prints the scorecard, writes bin/wall.json; fails unless all pass
	./scripts/wall.sh

soak: ## kill -9 under load 100 times, and 20,000 exchanges of all kinds that must leave nothing behind
	NEARSIDE_SOAK_ROUNDS=100 NEARSIDE_SOAK_EXCHANGES=20000 NEARSIDE_STORE_SOAK_ROUNDS=50 $(GO) test -race -timeout 60m -v -run 'KillMinusNine|KillLosesNothing|NothingLeaks' . ./proxy/store

wall-full: ## the same with the durations as published (three minutes)
	NEARSIDE_WALL=full ./scripts/wall.sh

clean:
	rm -rf bin
