package config

import (
	"slices"
	"strconv"
	"time"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy"
	"nearside/shaping"
	"nearside/upstream"
)

// servers lists the software that runs on one's own machines and that a
// provider may be named after.
var servers = []string{"lmstudio", "ollama", "mlx", "vllm", "sglang", "llamacpp", "litellm"}

// kinds lists what proxy.providers.<id>.kind and a discovery address can name.
var kinds = append(slices.Clone(servers), "openai", "azure", "anthropic", "openrouter", "deepseek", "moonshot", "minimax", "zai", "qwen", "mistral",
	"groq", "xai", "gemini", "hosted")

// systemMessages lists what both settings of that name may say.
var systemMessages = []string{shaping.SystemKeep, shaping.SystemHoist, shaping.SystemUser}

// The proxy's defaults that no other package owns.
const (
	logLevel         = "info"
	logFormat        = "auto"
	logBufferBytes   = 1 << 20
	discoveryEvery   = 30 * time.Second
	discoveryTimeout = 2 * time.Second
)

// discoveryAddresses are the ports that local servers listen on unless told
// otherwise. llama.cpp and mlx_lm.server share one; the probe tells them apart.
func discoveryAddresses() []DiscoveryAddress {
	return []DiscoveryAddress{
		{URL: "http://127.0.0.1:1234", Kind: "lmstudio"},
		{URL: "http://127.0.0.1:11434", Kind: "ollama"},
		{URL: "http://127.0.0.1:8000", Kind: "vllm"},
		{URL: "http://127.0.0.1:8080"},
		{URL: "http://127.0.0.1:30000", Kind: "sglang"},
	}
}

// UsualAddresses are where a look for servers on this machine looks unless told
// otherwise.
func UsualAddresses() []DiscoveryAddress { return discoveryAddresses() }

// proxyShape lists our own settings. Its sentences are the documentation of
// the settings, its defaults are taken from where they are used.
func proxyShape() *shape {
	d := proxy.Defaults()
	plus, zero := &shape{kind: whole}, &shape{kind: whole, zero: true}
	dur, durOrZero := &shape{kind: span}, &shape{kind: span, zero: true}
	yes := &shape{kind: boolean}
	of := func(n int) string { return strconv.Itoa(n) }

	addresses := ""
	for i, a := range discoveryAddresses() {
		if i > 0 {
			addresses += ", "
		}
		addresses += strconv.Quote(a.URL)
	}
	return obj(append(safetyFields(),
		ours("listen", textLike(wrongListen), strconv.Quote(d.Listen),
			"Where clients connect. Set 0.0.0.0:4141 or [::]:4141 to serve other machines; then set tls or stand behind something that does."),
		ours("dataDir", &shape{kind: text}, "",
			"Folder for what outlives a restart. $NEARSIDE_DATA is used when this is not set, else the user's state folder. A relative folder starts at the configuration file."),
		ours("tls", obj(
			ours("cert", &shape{kind: text}, "", "PEM file with the certificate chain; with it the proxy serves HTTPS only."),
			ours("key", &shape{kind: text}, "", "PEM file with the certificate's private key."),
			ours("clientCA", &shape{kind: text}, "", "PEM file with the authorities whose certificates clients must show; without it none is asked for."),
		), "", ""),
		ours("log", obj(
			ours("level", oneOf("trace", "debug", "info", "warn", "error", "off"), strconv.Quote(logLevel),
				"What is logged. debug adds a line for each attempt."),
			ours("format", oneOf("auto", "json", "console"), strconv.Quote(logFormat),
				"auto writes for people on a terminal and JSON anywhere else."),
			ours("bufferBytes", plus, of(logBufferBytes), "How much of the log may wait to be written when it is slow. Lines beyond it are dropped and counted (nearside_log_dropped_total): a log holds up no request."),
		), "", ""),
		ours("simulate", yes, "true",
			"Answer from a built-in simulated backend when no provider is configured, none was found since the start and nothing says what default means, so that a first request works. A server that is slow or away is never replaced by it."),
		ours("discovery", obj(
			ours("enabled", yes, "true",
				"Look for local model servers and serve their models under the server's name (lmstudio/…, ollama/…)."),
			ours("addresses", listOf(either(textLike(wrongOrigin), obj(
				need("url", textLike(wrongOrigin)),
				want("kind", oneOf(kinds...)),
			))), "["+addresses+"]", "Where to look: addresses, or {url, kind} when the software cannot be told from its answers. A private address is trusted by being listed; a public name that leads to one is refused."),
			ours("every", dur, inSeconds(discoveryEvery), "How often to look again."),
			ours("timeout", dur, inSeconds(discoveryTimeout), "How long one look may take."),
		), "", ""),
		ours("mdns", obj(
			ours("announce", yes, "false", "Announce the proxy to the network (mDNS, _nearside._tcp), where nearside models --lan finds it. It needs proxy.listen beyond loopback, and a restart."),
			ours("name", &shape{kind: text}, "", "The name to be announced as; without it the machine's."),
			ours("interface", &shape{kind: text}, "", "The network interface (en0, eth0) to announce on and to ask on; without it the system's choice."),
		), "", ""),
		leaf("chains", mapOf("<name>", either(listOf(&shape{kind: text}), obj(append([]field{want("models", listOf(&shape{kind: text}))}, policyFields()...)...))),
			"Further chains: a name that clients send as model, and the refs to try in order. agents.defaults.model is the chain called default. As {models: […]} with the keys of proxy.policy, which then hold for this chain; without models for default and the chains of agents."),
		ours("policy", obj(policyFields()...), "", ""),
		ours("keys", mapOf("<name>", keyShape()), "",
			"Keys of clients, by the SHA-256 of each (nearside keys add makes keys that need no place in this file). Where there is any, every client must present a valid one. What is said of requests takes from the policy of the chain and adds nothing to it."),
		ours("access", obj(
			ours("auth", oneOf(proxy.AuthAuto, proxy.AuthKeys, proxy.AuthNone), strconv.Quote(d.Access.Auth),
				"auto asks for a key where there are any, and wherever other machines can connect; keys always; none never, which needs a listen address on loopback."),
			ours("failuresPerMinute", plus, of(d.Access.Failures), "How many requests without a valid key one address may send in a minute before it hears 429 in the place of 401. Valid keys are not touched by it."),
			ours("reserveOutput", plus, of(d.Access.ReserveOutput), "Tokens that an answer is reckoned at for a key's limits before it is there; less where the request's own limit is less."),
		), "", ""),
		ours("network", obj(
			ours("offline", durOrZero, inSeconds(d.Network.Offline), "When this machine's own network is seen to be down (no route, name servers that do not answer), for how long far targets are passed over at first; twice as long each time it is still down. 0 asks them every time."),
			ours("offlineMax", dur, inSeconds(d.Network.OfflineMax), "The longest they are passed over before one request tries again."),
		), "", ""),
		ours("aliases", mapOf("<name or pattern>", &shape{kind: text}), "",
			"Names that clients send, and the ref or chain they mean. A pattern with * (gpt-*) catches what a client insists on sending."),
		ours("answerModel", oneOf("served", "requested"), strconv.Quote(d.AnswerModel),
			"The model that answers name: the ref that served, or the name that was asked for, for clients that compare the two."),
		ours("fallback", obj(
			ours("targets", plus, of(d.Fallback.Targets), "How many targets of a chain one exchange may try."),
			ours("continueBytes", plus, of(d.Fallback.ContinueBytes), "How much of a streamed answer is kept so that another target can go on from it (policy.continueStreams); one that is longer is not gone on with."),
			ours("retries", zero, of(d.Fallback.Retries), "How often a target that refused the connection is asked again when no other is left; 0 for never."),
			ours("backoffMin", durOrZero, inSeconds(d.Fallback.BackoffMin), "The least and …"),
			ours("backoffMax", dur, inSeconds(d.Fallback.BackoffMax), "… the most that is waited before that; how long is drawn each time, so that requests do not come back together."),
			ours("prefilled", zero, of(d.Fallback.Prefilled), "How many more tries may reach a backend once one has worked on the prompt and failed: reading a long prompt again is dear."),
			ours("worked", durOrZero, inSeconds(d.Fallback.Worked), "An error that a backend says later than this after the request counts as one that it has worked for."),
			ours("least", durOrZero, inSeconds(d.Fallback.Least), "How much of its time (agents.defaults.timeoutSeconds, or what the client says) an exchange must have left to try a further target."),
			ours("retryShare", &shape{kind: number, zero: true}, strconv.FormatFloat(d.Fallback.RetryShare, 'g', -1, 64), "The retry budget: tries beyond the first that reach a backend, over all requests, as a share of the requests of retryWindow. Beyond it a failure is told at once."),
			ours("retryMin", zero, of(d.Fallback.RetryMin), "So many of them may run at once whatever the share."),
			ours("retryWindow", dur, inSeconds(d.Fallback.RetryWindow), "How far back requests and tries count for the share."),
		), "", ""),
		ours("balance", obj(
			ours("load", &shape{kind: number}, strconv.FormatFloat(d.Balance.Load, 'g', -1, 64), "How many times its fair share of the requests under way an endpoint (proxy.providers.<id>.endpoints) may have before its conversations go to another. More keeps prompt caches warm, less spreads better; at least 1."),
			ours("slowStart", durOrZero, inSeconds(d.Balance.SlowStart), "How long an endpoint that is new or came back takes to its whole weight, from a tenth of it."),
			ours("failureLoad", zero, of(d.Balance.FailureLoad), "How many requests under way a failure counts as, so that an endpoint that fails fast does not look idle."),
			ours("failureFor", dur, inSeconds(d.Balance.FailureFor), "How long it counts; it wears off evenly."),
		), "", ""),
		ours("cooldown", obj(cooldownFields()...), "", ""),
		ours("affinity", obj(affinityFields()...), "", ""),
		ours("queue", obj(queueFields()...), "", ""),
		ours("context", obj(
			ours("preflight", yes, "true",
				"Hold a request against the context window of a model before it is asked: what cannot fit is refused or goes to a target it fits, and max_tokens is kept within what the prompt leaves. Windows that nobody says hold nothing back."),
		), "", ""),
		ours("inputs", obj(
			ours("unsupportedImages", oneOf(shaping.ImagesNext, shaping.ImagesError, shaping.ImagesPlaceholder), strconv.Quote(d.Inputs.UnsupportedImages),
				"Images for a model that reads none: next asks the next target that does, error refuses the request, placeholder sends a text in their place. compat.unsupportedImages says it for a provider or a model."),
			ours("fetchImages", yes, "false",
				"Fetch images that a request points to, for servers that take data: URLs only (Ollama, LM Studio). Clients then make the proxy ask addresses of their choice; public ones, unless fetchPrivate says more."),
			ours("fetchPrivate", yes, "false", "Fetch from private addresses and this machine, too. Cloud metadata and link-local addresses are never asked."),
			ours("fetchCount", plus, of(d.Inputs.FetchCount), "How many images of one request are fetched."),
			ours("fetchBytes", plus, of(d.Inputs.FetchBytes), "What all fetched images of one request may have."),
			ours("fetch", dur, inSeconds(d.Inputs.Fetch), "How long fetching them may take."),
		), "", ""),
		ours("heartbeat", obj(
			ours("first", durOrZero, inSeconds(d.Beat.First),
				"How long a stream may be silent before the client hears that it lives. Until then a failure keeps its HTTP status. 0 turns heartbeats off."),
			ours("every", dur, inSeconds(d.Beat.Every), "The time between heartbeats; below the idle limit of what stands between client and proxy."),
		), "", ""),
		ours("client", obj(
			ours("read", dur, inSeconds(d.Client.Read), "How long a client may take to send a whole request."),
			ours("idle", dur, inSeconds(d.Client.Idle), "How long a connection without requests stays open."),
			ours("write", dur, inSeconds(d.Client.Write), "How long one write may wait for a client that does not read; then it counts as gone and the backend is stopped."),
			ours("margin", durOrZero, inSeconds(d.Client.Margin), "How long before the time-out that a client tells (x-nearside-timeout, x-stainless-timeout) it hears 504 instead of nothing; at most a tenth of it."),
			ours("watchAfter", dur, inSeconds(d.Client.WatchAfter), "How long a request runs before its client's departure is watched for."),
		), "", ""),
		ours("limits", obj(
			ours("bodyBytes", plus, of(d.Limits.BodyBytes), "The largest request body. Raise it for many or large images."),
			ours("headerBytes", plus, of(d.Limits.HeaderBytes), "The largest request head."),
			ours("inFlightBytes", plus, strconv.FormatInt(d.Limits.InFlightBytes, 10), "All request bodies together, those still arriving too; beyond it new requests get 503."),
			ours("conns", plus, of(d.Limits.Conns), "Client connections open at once; at most half of the file descriptors that the process may have."),
			ours("depth", plus, of(d.Limits.Depth), "How deep a request's JSON may nest."),
			ours("fields", plus, of(d.Limits.Fields), "How many top-level members a request may have."),
		), "", ""),
		ours("drain", obj(
			ours("announce", durOrZero, inSeconds(d.Drain.Announce), "On shutdown, how long /readyz says no while requests are still accepted. Set it when a load balancer polls."),
			ours("grace", durOrZero, inSeconds(d.Drain.Grace), "Then how long running streams may finish before they end with an error event."),
		), "", ""),
		ours("responses", obj(
			ours("store", oneOf("file", "memory", "off"), strconv.Quote(d.Responses.Store),
				"Where responses and conversations are kept for previous_response_id and GET /v1/responses: responses.db in dataDir, memory until the proxy stops, or not at all. A request with store: false is never kept."),
			ours("maxAge", durOrZero, inSeconds(d.Responses.MaxAge), "How long a response is kept; 0 for ever."),
			ours("maxBytes", plus, strconv.FormatInt(d.Responses.MaxBytes, 10), "What the store may grow to; the oldest responses go first."),
			ours("sealKey", &shape{kind: text}, "",
				"File with the key (32 bytes as base64) of the envelopes in which stateless clients carry reasoning and compacted conversations. Without it one is made in dataDir. Replicas need the same."),
			ours("systemMessages", oneOf(systemMessages...), strconv.Quote(d.Responses.SystemMessages),
				"System and developer messages in the middle of a conversation, at a chat backend that is not OpenAI, whatever the client speaks: keep them where they stand, hoist them into the first one (templates such as Qwen's fail otherwise), or tell them as the user's."),
			ours("reasoning", oneOf("summary", "reasoning_text", "reasoning"), strconv.Quote(d.Responses.Reasoning),
				"The events that tell a backend's reasoning: summary is what most clients show, reasoning_text OpenAI's for raw reasoning, reasoning Open Responses'."),
			ours("background", plus, of(d.Responses.Background), "Responses with background: true that run at once."),
			ours("backgroundQueue", plus, of(d.Responses.BackgroundQueue), "How many more may wait; beyond it they get 429."),
			ours("backgroundBytes", plus, of(d.Responses.BackgroundBytes), "Events kept of a running background response for those who ask for its stream."),
			ours("webSocket", yes, "true", "Serve GET /v1/responses over WebSockets. Without it clients get 426 and fall back to POST."),
			ours("sockets", plus, of(d.Responses.Sockets), "WebSockets open at once."),
			ours("socketFor", dur, inSeconds(d.Responses.SocketFor), "The longest one may be open."),
			ours("socketQueue", plus, of(d.Responses.SocketQueue), "Responses that may wait on one."),
			ours("socketBytes", plus, of(d.Responses.SocketBytes), "What one remembers of its responses that are not stored, for previous_response_id."),
		), "", ""),
		ours("ledger", obj(
			ours("keep", yes, strconv.FormatBool(d.Ledger.Keep), "Keep an account of exchanges (ledger.db in dataDir; nearside usage): who asked for what, who answered, tokens, cost, times; never content. It needs a restart, as the rest of ledger does."),
			ours("maxAge", durOrZero, inSeconds(d.Ledger.MaxAge), "How long a row is kept; 0 for ever."),
			ours("maxBytes", plus, strconv.FormatInt(d.Ledger.MaxBytes, 10), "What the file may grow to; the oldest rows go first, their sums last."),
			ours("queue", plus, of(d.Ledger.Queue), "Rows that may wait to be written: no exchange waits for the file. What is beyond is lost, counted and told."),
			ours("batch", dur, inSeconds(d.Ledger.Batch), "How long a row may wait for others to be written with: what a crash can lose at the most."),
			ours("damaged", oneOf("aside", "refuse"), `"aside"`, "What to do with a file that is damaged: move it aside and begin a new one, or refuse to start."),
			ours("compareWith", &shape{kind: text}, "", "The model whose prices tell what near answers have saved. Without it the first far one with a price of the chain that answered, or of the default chain."),
		), "", ""),
		ours("capture", captureShape(d, dur, plus), "", ""),
		ours("dashboard", dashboardShape(), "", ""),
		ours("learning", yes, "true",
			"When a backend refuses a request in words that a compat flag answers, set the flag for that model and ask the same backend again, up to four times; what helped is remembered until the configuration is loaded again. A flag that the configuration says is never overruled. false hands refusals on as they are."),
		ours("learnedModels", plus, of(d.LearnedModels), "Of how many models that is remembered; the one that was taught longest ago makes room."),
		ours("exchangesKept", zero, of(d.ExchangesKept), "How many finished exchanges /proxy/exchanges can still show."),
		ours("metrics", obj(observedFields()...), "", ""),
		ours("traces", tracesShape(), "", ""),
		leaf("rules", listOf(ruleShape()), "Rewritings of your own, for requests to every model: a name, what it is for, and one of set, remove, default, rename, map and clamp on a path (docs/compat.md). They come after the built-in rules and before params.extra_body."),
		ours("providers", mapOf("<id>", ownProviderShape(plus, dur, durOrZero, yes)), "",
			"What OpenClaw's models.providers.<id> has no key for; also for what discovery finds, by the name it gives."),
		ours("models", mapOf("<ref>", obj(
			leaf("compat", ownCompatShape(), "As proxy.providers.<id>.compat, for one model, above all other sources."),
			leaf("rules", listOf(ruleShape()), "As proxy.rules, for one model, after those of its provider."),
			ours("nearOnly", yes, "false", "Ask near targets only when this model is asked for, by its ref, an alias or as the first of a chain: its requests never leave your machines."),
			ours("warm", obj(warmFields()...), "", ""),
			ours("region", &shape{kind: text}, "", "Where this model is served, above its provider's region: for what params.extra_body pins at an aggregator."),
		)), "", "What OpenClaw's models.providers.<id>.models[] has no key for, by ref; also for models that discovery finds."),
	)...)
}

// policyFields are the keys of proxy.policy, which a chain has as well.
func policyFields() []field {
	d := catalog.DefaultPolicy()
	yes, dur, durOrZero := &shape{kind: boolean}, &shape{kind: span}, &shape{kind: span, zero: true}
	flag := strconv.FormatBool
	return []field{
		ours("nearOnly", yes, flag(d.NearOnly), "Ask near targets only, whatever fails: the request never leaves your machines."),
		ours("regions", listOf(&shape{kind: text}), "[]", "Regions (proxy.providers.<id>.region) of the far providers that may be asked; an empty list for all."),
		ours("overflow", obj(
			ours("failure", yes, flag(d.Overflow.Failure), "A far target may answer when the near one has failed."),
			ours("loading", yes, flag(d.Overflow.Loading), "Or when it loads its model for longer than loadingWait."),
			ours("queue", yes, flag(d.Overflow.Queue), "Or when it is saturated for longer than queueWait."),
			ours("context", yes, flag(d.Overflow.Context), "Or when the request does not fit its context window."),
			ours("ability", yes, flag(d.Overflow.Ability), "Or when it does not read what the request holds: images, tools."),
			ours("loadingWait", durOrZero, inSeconds(d.Overflow.LoadingWait), "How long a model that is being loaded is waited for, where another target is left."),
			ours("queueWait", durOrZero, inSeconds(d.Overflow.QueueWait), "How long a saturated backend is waited for, where another target is left."),
			ours("largerContext", yes, flag(d.Overflow.LargerContext), "A request that a backend refused for its length may go to a later target of the chain with a larger window. Agents compact on the refusal; they do not hear it then."),
		), "", ""),
		ours("hedge", obj(
			ours("enabled", yes, flag(d.Hedge.Enabled), "Start the next target beside one that is slow to say its first token; the first content wins and the other is stopped. It costs up to twice the tokens."),
			ours("after", dur, "", "When to start it. Without it the target's usual first-token time."),
			ours("percentile", &shape{kind: number}, strconv.FormatFloat(d.Hedge.Percentile, 'g', -1, 64), "Which of the first-token times seen is the usual one, between 0 and 1."),
			ours("samples", &shape{kind: whole}, strconv.Itoa(d.Hedge.Samples), "How many must have been seen of a target before it is hedged."),
		), "", ""),
		ours("continueStreams", yes, flag(d.Continue), "When a stream breaks after content, have the next target go on from what was said. Where it cannot, the stream ends with an error as ever."),
	}
}

func ownProviderShape(plus, dur, durOrZero, yes *shape) *shape {
	near, far := upstream.DefaultDeadlines(true), upstream.DefaultDeadlines(false)
	nearLimits, farLimits := upstream.DefaultLimits(true), upstream.DefaultLimits(false)
	nearBreaker, farBreaker := breaker.Near(), breaker.Far()
	secs := func(n, f time.Duration) string { return nearFar(inSeconds(n), inSeconds(f)) }
	ints := func(n, f int) string { return nearFar(strconv.Itoa(n), strconv.Itoa(f)) }
	share := func(n, f float64) string {
		return nearFar(strconv.FormatFloat(n, 'g', -1, 64), strconv.FormatFloat(f, 'g', -1, 64))
	}
	ratio, zero := &shape{kind: number, zero: true}, &shape{kind: whole, zero: true}
	return obj(
		ours("near", yes, "", "Whether the provider counts as your own machine. Without it the address decides: loopback, private, .local and bare names are near."),
		leaf("endpoints", listOf(endpointShape()), "Several places that serve the provider's models, in the place of its baseUrl: {url, name, weight, drain}, with the same key, headers and TLS for all. A conversation stays at one of them, and one that fails is passed over (docs/failover.md). drain takes no new request."),
		ours("kind", oneOf(kinds...), "", "The server software, when its answers do not tell."),
		ours("systemMessages", oneOf(systemMessages...), "", "As proxy.responses.systemMessages, for this provider alone."),
		ours("region", &shape{kind: text}, "", "Where the provider answers from, as a label of your own that policy.regions compares: \"eu\", \"us-east\", \"ours\"."),
		leaf("compat", ownCompatShape(), "How the provider's server differs from OpenAI, for all its models: the flags of models[].compat and further ones (docs/compat.md)."),
		leaf("rules", listOf(ruleShape()), "As proxy.rules, for this provider's models, after those."),
		leaf("apiKeys", listOf(&shape{kind: secret}), "Further keys of the provider, as models.providers.<id>.apiKey: used in this order when the one before is limited, refused or without credit."),
		ours("billingBackoff", &shape{kind: span, unit: "Hours"}, "", "As proxy.cooldown.billingBackoffHours, for this provider."),
		slotsField(),
		ours("queue", zero, "", "How many requests may wait for a slot, 0 for none; without it four for each slot and at least 64. A full queue turns away the last of the key that has most in it."),
		residentField(),
		ours("total", durOrZero, secs(near.Total, far.Total), "The longest one attempt may take, answer included; 0 for no bound."),
		ours("deadlines", obj(
			ours("connect", dur, secs(near.Connect, far.Connect), "Name look-up and TCP connect."),
			ours("tls", dur, secs(near.TLS, far.TLS), "TLS handshake."),
			ours("write", dur, secs(near.Write, far.Write), "Sending the request; large bodies get a second more for each megabyte."),
			ours("headers", dur, "", "From the request to the head of the answer. Without it the first-content deadline holds."),
			ours("firstContent", dur, "", "From the request to the first token. Without it a budget that grows with the prompt and the speed seen so far."),
			ours("firstContentMin", dur, secs(near.FirstContentMin, far.FirstContentMin), "The least that budget can be."),
			ours("firstContentMax", dur, secs(near.FirstContentMax, far.FirstContentMax), "The most that budget can be."),
			ours("firstContentCold", durOrZero, secs(near.FirstContentCold, far.FirstContentCold), "Added while the server loads its model."),
			ours("gap", dur, secs(near.Gap, far.Gap), "Between two events once content came. Raise it for a model that thinks in silence."),
			ours("queue", durOrZero, secs(near.Queue, far.Queue), "How long a backend that has no room is waited for when no other target is left (where one is: proxy.policy.overflow.queueWait)."),
		), "", ""),
		ours("states", obj(
			ours("poll", dur, inSeconds(upstream.DefaultStates().First), "How soon a near backend that is not ready is asked again what it is."),
			ours("pollMax", dur, inSeconds(upstream.DefaultStates().Max), "Each further time comes after twice as long, and at the latest after this."),
		), "", ""),
		ours("wake", obj(wakeFields()...), "", ""),
		ours("breaker", obj(
			ours("disabled", yes, "false", "Never stop calling the provider; failures are still counted."),
			ours("consecutive", plus, ints(nearBreaker.Consecutive, farBreaker.Consecutive), "Failures in a row that open the breaker."),
			ours("consecutiveConnect", plus, ints(nearBreaker.ConsecutiveConnect, farBreaker.ConsecutiveConnect), "Failures to connect in a row that open it."),
			ours("ratio", ratio, share(nearBreaker.Ratio, farBreaker.Ratio), "Share of failures within the window that opens it, up to 1."),
			ours("ratioMin", plus, ints(nearBreaker.RatioMin, farBreaker.RatioMin), "Attempts within the window before the share counts."),
			ours("window", dur, secs(nearBreaker.Window, farBreaker.Window), "How far back attempts count."),
			ours("openFor", dur, secs(nearBreaker.OpenFor, farBreaker.OpenFor), "How long it stays open the first time; doubles each time it opens again."),
			ours("openMax", dur, secs(nearBreaker.OpenMax, farBreaker.OpenMax), "The longest it stays open."),
			ours("jitter", ratio, share(nearBreaker.Jitter, farBreaker.Jitter), "Share by which the open time varies, so that replicas do not return together."),
			ours("lease", dur, secs(nearBreaker.Lease, farBreaker.Lease), "A trial request that never reports back is forgotten after this."),
		), "", ""),
		ours("limits", obj(
			ours("headerBytes", plus, ints(nearLimits.HeaderBytes, farLimits.HeaderBytes), "The largest head of an answer."),
			ours("eventBytes", plus, ints(nearLimits.EventBytes, farLimits.EventBytes), "The largest streamed event."),
			ours("answerBytes", plus, ints(nearLimits.AnswerBytes, farLimits.AnswerBytes), "The largest answer that is not streamed."),
			ours("preambleBytes", plus, ints(nearLimits.PreambleBytes, farLimits.PreambleBytes), "Events held back until the first content, while another target could still be tried."),
			ours("conns", plus, ints(nearLimits.Conns, farLimits.Conns), "Connections open at once."),
			ours("idleConns", plus, ints(nearLimits.IdleConns, farLimits.IdleConns), "Idle connections kept for the next request."),
			ours("idle", dur, secs(nearLimits.Idle, farLimits.Idle), "How long an idle connection is kept; below the server's own limit."),
		), "", ""),
	)
}
