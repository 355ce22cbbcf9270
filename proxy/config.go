package proxy

import (
	"time"

	"nearside/catalog"
	"nearside/proxy/access"
	"nearside/proxy/capture"
	"nearside/proxy/ledger"
	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/upstream"
)

// Config holds the proxy's own settings (the key "proxy" of the file), apart
// from what belongs to upstream, breaker and catalog. Defaults returns the
// shipped ones; a zero duration means "none" where the comment says so.
type Config struct {
	Listen  string // host:port
	TLSCert string // file; empty for plain HTTP
	TLSKey  string
	DataDir string
	// Hosts are names and addresses by which clients may call the proxy, beside
	// its own: in lower case, "*.lan" for all below.
	Hosts    []string
	CORS     CORS
	Admin    AdminConfig
	Limits   Limits
	Client   ClientDeadlines
	Beat     Heartbeat
	Drain    Drain
	Fallback Fallback
	Balance  upstream.Balance
	Queue    QueueConfig
	Cooldown CooldownConfig
	Affinity AffinityConfig
	// Policy is that of requests whose chain has none of its own.
	Policy catalog.Policy
	// Keys are those of clients; nil asks nobody for one.
	Keys    *access.Table
	Access  AccessConfig
	Network Network
	// Warm says by ref which models are loaded ahead of requests.
	Warm map[string]Warm
	// Lean leaves the heaviest tools out of requests to near models
	// (agents.defaults.experimental.localModelLean).
	Lean bool
	// Responses are the settings of what the Responses dialect keeps and runs.
	Responses ResponsesConfig
	Ledger    LedgerConfig
	Traces    TracesConfig
	Capture   CaptureConfig

	Context ContextConfig
	Inputs  Inputs
	// ExchangeTotal bounds an exchange over all its targets
	// (agents.defaults.timeoutSeconds); 0 for none.
	ExchangeTotal time.Duration
	// AnswerModel is "served" (the ref that served, default) or "requested".
	AnswerModel string
	// Learning says whether a request that a backend refuses in words that a flag
	// answers is tried again with that flag. LearnedModels is of how many models
	// it is remembered.
	Learning      bool
	LearnedModels int
	Dashboard     Dashboard
	// ExchangesKept is how many receipts /proxy/exchanges/{id} can show.
	ExchangesKept int
	// MetricsKeys is of how many clients' keys the metrics tell; the others share a
	// label.
	MetricsKeys int
}

// AccessConfig says who is asked for a key, and what of it is reckoned beforehand.
type AccessConfig struct {
	// Auth is "auto": keys are asked for where there are any, and where others than
	// this machine can connect; "keys": always; "none": never, and only this
	// machine can connect.
	Auth string
	// Failures is how many requests without a valid key one address may send in a
	// minute before it is told to wait.
	Failures int
	// ReserveOutput is how many tokens an answer is reckoned at before it is there,
	// where the request does not bound it to fewer.
	ReserveOutput int
}

// The values of AccessConfig.Auth.
const (
	AuthAuto = "auto"
	AuthKeys = "keys"
	AuthNone = "none"
)

// Network says what is done when this machine's own network is down.
type Network struct {
	Offline    time.Duration // far targets are passed over for so long at first; 0: never
	OfflineMax time.Duration // and at the most, while it stays down
}

// Limits bound what clients may make us hold.
type Limits struct {
	BodyBytes     int   // of one request
	HeaderBytes   int   // of one request's head
	InFlightBytes int64 // bodies of all requests together
	Conns         int   // open client connections
	Depth         int   // JSON nesting
	Fields        int   // top-level members of a body
}

// ClientDeadlines bound the client's side.
type ClientDeadlines struct {
	Read  time.Duration // the whole request
	Idle  time.Duration // between requests on a connection
	Write time.Duration // one write; a client that does not read is dropped
	// Margin is how long before the time-out that a client tells it hears that
	// there is no answer.
	Margin time.Duration
	// WatchAfter is how long a request may run before we start to watch for the
	// client's departure.
	WatchAfter time.Duration
}

// Heartbeat says when a silent exchange shows signs of life.
type Heartbeat struct {
	First time.Duration // before it, failures keep their HTTP status; 0: never
	Every time.Duration
}

// Drain says how a shutdown goes.
type Drain struct {
	Announce time.Duration // /readyz says no, requests are still served
	Grace    time.Duration // then streams get an error event
}

// ContextConfig says what is made of prompts and windows.
type ContextConfig struct {
	// Preflight holds requests against the window of a target before it is asked.
	Preflight bool
}

// Inputs say what becomes of what a target does not take as it is.
type Inputs struct {
	UnsupportedImages string // by models that read none: "next", "error" or "placeholder"
	FetchImages       bool   // remote ones, for backends that take images in the request only
	FetchPrivate      bool   // also from private addresses and this machine
	FetchCount        int    // of one request
	FetchBytes        int    // of all images of one request together
	Fetch             time.Duration
}

// ResponsesConfig says what of the Responses dialect is kept, and how much of it
// may run beside its clients.
type ResponsesConfig struct {
	Store    string        // "file", "memory" or "off"
	MaxAge   time.Duration // of what is stored; negative for ever
	MaxBytes int64         // of what is stored

	Background      int // responses that run in the background at once
	BackgroundQueue int // and that wait to
	BackgroundBytes int // of the events of one of them

	WebSocket   bool
	Sockets     int           // open at once
	SocketFor   time.Duration // the longest one may be open
	SocketQueue int           // responses that wait on one
	SocketBytes int           // what one remembers of earlier responses

	// SystemMessages says what becomes of system messages in the middle of a
	// conversation at a chat backend that is not OpenAI: "keep", "hoist" or "user".
	SystemMessages string

	Reasoning string // how reasoning is told: "summary", "reasoning_text" or "reasoning"
	SealKey   string // file with the key of sealed envelopes; empty for one in the data folder
}

// LedgerConfig is of the account of exchanges.
type LedgerConfig struct {
	Keep     bool
	MaxAge   time.Duration // of a row; 0 for ever
	MaxBytes int64         // of the file
	Queue    int           // rows that may wait to be written
	Batch    time.Duration // how long a row may wait for others
	Aside    bool          // a damaged file is moved away; else the proxy does not start
	// CompareWith is the model whose prices tell what near answers have saved;
	// empty for the first far one of the chain.
	CompareWith string
}

// Fallback bounds one exchange's attempts.
type Fallback struct {
	Targets int // at most so many targets are tried
	// ContinueBytes is what is kept of an answer so that another target can go on
	// from it (Policy.Continue).
	ContinueBytes int
	// Retries is how often the last target that is left is asked again when it
	// refused the connection, after a while between BackoffMin and BackoffMax.
	Retries                int
	BackoffMin, BackoffMax time.Duration
	// Prefilled is how many further tries that reach a backend follow one whose
	// backend was at work on the prompt; Worked is after how long an error says
	// that it was.
	Prefilled int
	Worked    time.Duration
	// Least is how much of its time an exchange must have left for a further try.
	Least time.Duration
	// The retry budget: further tries are at most RetryShare of the requests of
	// RetryWindow, but RetryMin of them at once in any case.
	RetryShare  float64
	RetryMin    int
	RetryWindow time.Duration
}

// Defaults returns the shipped settings.
func Defaults() Config {
	return Config{
		Listen: "127.0.0.1:4141",
		Limits: Limits{BodyBytes: 32 << 20, HeaderBytes: 16 << 10, InFlightBytes: 256 << 20, Conns: 8192, Depth: 256, Fields: 512},
		Client: ClientDeadlines{Read: 30 * time.Second, Idle: 90 * time.Second, Write: 30 * time.Second, Margin: 250 * time.Millisecond, WatchAfter: 10 * time.Millisecond},
		Beat:   Heartbeat{First: 20 * time.Second, Every: 15 * time.Second},
		Drain:  Drain{Announce: 0, Grace: 120 * time.Second},

		Fallback: Fallback{Targets: 3, ContinueBytes: 256 << 10, Retries: 1, BackoffMin: 50 * time.Millisecond, BackoffMax: 250 * time.Millisecond, Prefilled: 1, Worked: time.Second,
			Least: 250 * time.Millisecond, RetryShare: 0.2, RetryMin: 3, RetryWindow: 10 * time.Second},
		Balance:  upstream.DefaultBalance(),
		Queue:    DefaultQueue(),
		Cooldown: CooldownConfig{Cooldown: upstream.DefaultCooldown(), OverloadedRotations: 1, RateLimitedRotations: 1, Rotations: 8},
		Affinity: AffinityConfig{Sessions: 4096, For: time.Hour, Targets: true},
		Policy:   catalog.DefaultPolicy(),
		Access:   AccessConfig{Auth: AuthAuto, Failures: 60, ReserveOutput: 4096},
		Network:  Network{Offline: time.Second, OfflineMax: 15 * time.Second},
		Responses: ResponsesConfig{Store: "file", MaxAge: 30 * 24 * time.Hour, MaxBytes: 1 << 30, Background: 4, BackgroundQueue: 64, BackgroundBytes: 16 << 20,
			WebSocket: true, Sockets: 256, SocketFor: time.Hour, SocketQueue: 16, SocketBytes: 32 << 20, Reasoning: "summary", SystemMessages: shaping.SystemKeep},
		Ledger: LedgerConfig{Keep: true, MaxAge: ledger.DefaultMaxAge, MaxBytes: ledger.DefaultMaxBytes, Queue: ledger.DefaultQueue, Batch: ledger.DefaultEvery, Aside: true},
		Traces: TracesConfig{Sample: 0.1, FromClients: true, Queue: 1024, Batch: 128, Every: 5 * time.Second, Timeout: 10 * time.Second, Retry: time.Minute, Service: "nearside",
			Propagate: PropagateNear},
		Capture:       CaptureConfig{Body: 1 << 20, Queue: capture.DefaultQueue, MaxAge: capture.DefaultMaxAge, MaxBytes: capture.DefaultMaxBytes},
		Context:       ContextConfig{Preflight: true},
		Inputs:        Inputs{UnsupportedImages: shaping.ImagesNext, FetchCount: 8, FetchBytes: 16 << 20, Fetch: 10 * time.Second},
		AnswerModel:   "served",
		Learning:      true,
		LearnedModels: 256,
		ExchangesKept: 256,
		MetricsKeys:   meter.KeysMax,
		Dashboard:     defaultDashboard(),
	}
}
