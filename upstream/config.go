package upstream

import (
	"slices"
	"strings"
	"time"

	"nearside/breaker"
	"nearside/catalog"
)

// Secret is a credential. It never prints: String, GoString, Format and
// MarshalJSON give "***". Reveal returns the text for the wire.
type Secret struct{ text string }

// NewSecret wraps a credential.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the credential itself, for the wire only.
func (s Secret) Reveal() string { return s.text }

// IsZero says that there is no credential.
func (s Secret) IsZero() bool { return s.text == "" }

// Config holds what is needed to reach one provider. Two equal Configs keep
// their connections, breaker and learned rates over a reload.
type Config struct {
	ID      string
	BaseURL string // default for models without their own
	// Endpoints are the places that serve the models without their own, when there
	// are several; BaseURL is then the URL of the first.
	Endpoints []EndpointConfig
	API       catalog.API
	Near      bool
	// NearSaid says that Near is the configuration's word and not the address's:
	// a name of a private network may then lead to a public address.
	NearSaid bool
	Kind     catalog.Kind

	// Slots are how many requests each place serves at once, as it is configured;
	// SlotsAuto where it is to say so itself or else to be found out; 0 where nobody
	// waits here. QueueMax is how many may wait: 0 for the usual number, negative for
	// none. Resident is how many models each place holds at once: 0 for any number,
	// negative for what is found out.
	Slots, QueueMax, Resident int

	Key     Secret // zero: no Authorization is sent
	Auth    Auth
	More    []Secret         // further keys, for when that one is left alone; at most KeysMax with it
	Headers []catalog.Header // provider headers, then request.headers over them

	// AllowPrivate is request.allowPrivateNetwork: nil when not said (only
	// loopback is trusted), true admits LAN, tailnet and private DNS, false
	// admits nothing private, not even loopback.
	AllowPrivate *bool
	ProxyURL     string // request.proxy: explicit proxy; "env" for env-proxy; empty for none
	TLS          TLS

	Deadlines Deadlines
	Limits    Limits
	Breaker   breaker.Config
	Cooldown  Cooldown // of its keys
	States    StateBounds
	Wake      Wake
}

// SlotsAuto is Config.Slots of a server that is not said how many it serves at once.
const SlotsAuto = -1

// credentials returns the keys in the order in which they are used, each once.
func (c *Config) credentials() []string {
	if c.Auth.Mode == "none" {
		return nil
	}
	first := c.Key
	if !c.Auth.Secret.IsZero() {
		first = c.Auth.Secret
	}
	var all []string
	for _, s := range append([]Secret{first}, c.More...) {
		if !s.IsZero() && !slices.Contains(all, s.text) && len(all) < KeysMax {
			all = append(all, s.text)
		}
	}
	return all
}

// KeyCount returns how many keys the provider has that are used in turn.
func (c *Config) KeyCount() int { return len(c.credentials()) }

// headerSecrets returns what is secret of the provider's own headers, and of it
// what proves to the provider itself who we are.
func (c *Config) headerSecrets() (all, proofs []string) {
	for _, h := range c.Headers {
		secret := strings.TrimPrefix(h.Value, "Bearer ")
		switch strings.ToLower(h.Name) {
		case "authorization", "x-api-key", "api-key":
			proofs = append(proofs, secret)
		case "proxy-authorization", "cookie":
		default:
			continue
		}
		all = append(all, secret)
	}
	return all, proofs
}

// Auth says how the credential travels.
type Auth struct {
	Mode   string // "" provider-default, "authorization-bearer", "header", "none"
	Header string // for mode header
	Prefix string // before the credential, mode header
	Secret Secret // overrides Config.Key when set
}

// TLS holds request.tls: file names or PEM texts.
type TLS struct {
	CA, Cert, Key, ServerName string
	Passphrase                Secret
}

// Deadlines bound the phases of one attempt. Zero means no bound for Total and
// a default for the others.
type Deadlines struct {
	Connect                                            time.Duration // TCP connect, name look-up included
	TLS                                                time.Duration
	Write                                              time.Duration // base for sending the request, plus WritePerMB
	WritePerMB                                         time.Duration
	Headers                                            time.Duration // 0: as FirstContent
	FirstContent                                       time.Duration // 0: the prefill-aware budget between FirstContentMin and FirstContentMax
	FirstContentMin, FirstContentMax, FirstContentCold time.Duration
	Gap                                                time.Duration // between events after content; keep-alives do not count
	Total                                              time.Duration
	// Queue is how long a backend that has no room is waited for when no other
	// target is left; 0 for not at all.
	Queue time.Duration
	// Explicit names the setting that fixed a deadline, for messages, by phase
	// ("connect", "tls", "write", "headers", "firstContent", "firstContentMin",
	// "firstContentMax", "firstContentCold", "gap", "total").
	Explicit map[string]string
}

// Limits bound what one backend may make us hold.
type Limits struct {
	HeaderBytes   int // of an answer's head
	EventBytes    int // of one streamed event
	AnswerBytes   int // of a whole answer
	PreambleBytes int // of events held back before the first content
	Conns         int // open connections
	IdleConns     int
	Idle          time.Duration // an idle connection is closed after this
}

// DefaultDeadlines returns the defaults of spec: near or far.
func DefaultDeadlines(near bool) Deadlines {
	d := Deadlines{Connect: 5 * time.Second, TLS: 5 * time.Second, Write: 10 * time.Second, WritePerMB: time.Second,
		FirstContentMin: 60 * time.Second, FirstContentMax: 180 * time.Second, Gap: 120 * time.Second, Total: 30 * time.Minute}
	if near {
		d.Connect, d.TLS = time.Second, 3*time.Second
		d.FirstContentMin, d.FirstContentMax, d.FirstContentCold = 30*time.Second, 300*time.Second, 180*time.Second
		d.Gap, d.Queue = 60*time.Second, 300*time.Second
	}
	return d
}

// DefaultStates returns how soon a near backend that is not ready is asked again.
// Far ones are not asked what they are: a request finds out.
func DefaultStates() StateBounds {
	return StateBounds{First: 500 * time.Millisecond, Max: 5 * time.Second}
}

// DefaultLimits returns the default bounds: near or far.
func DefaultLimits(near bool) Limits {
	l := Limits{HeaderBytes: 64 << 10, EventBytes: 16 << 20, AnswerBytes: 64 << 20, PreambleBytes: 1 << 20,
		Conns: 4096, IdleConns: 64, Idle: 30 * time.Second}
	if near {
		l.Idle = 3 * time.Second // uvicorn closes after 5 s
	}
	return l
}
