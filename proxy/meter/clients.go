package meter

import "github.com/prometheus/client_golang/prometheus"

var (
	clientExchangesDesc = describe("client_exchanges_total", "Finished exchanges by the id of the client's key; ids beyond proxy.metrics.keys count as other.", "key", "outcome")
	clientTokensDesc    = describe("client_tokens_total", "Tokens by the id of the client's key, as backends report them.", "key", "kind")
	clientCostDesc      = describe("client_cost_usd_total", "What the exchanges of a client's key cost at the catalogue's prices, in USD.", "key")
	clientDescs         = [...]*prometheus.Desc{clientExchangesDesc, clientTokensDesc, clientCostDesc}

	costDesc   = describe("cost_usd_total", "What exchanges cost at the catalogue's prices, in USD.", "provider")
	savedDesc  = describe("saved_usd_total", "What near answers would have cost at a far model (proxy.ledger.compareWith), in USD.", "provider")
	queuedDesc = describe("queue_wait_seconds", "How long exchanges waited for slots, by the provider that answered or was asked last.", "provider")
)

// KeysMax is of how many clients' keys the metrics tell unless told otherwise.
const KeysMax = 100

// clients counts by the clients' keys. The first that come have a label of their
// own; the others share one, so that keys which come and go for years do not fill
// the metrics.
type clients struct {
	exchanges, tokens, cost table[float64]

	named map[string]string // ids with a label of their own
	most  int
}

func newClients() clients {
	const rows = 1 << 20 // named bounds them
	return clients{named: map[string]string{}, most: KeysMax,
		exchanges: newTable[float64](clientExchangesDesc, rows, 0), tokens: newTable[float64](clientTokensDesc, rows, 0), cost: newTable[float64](clientCostDesc, rows, 0)}
}

// LimitKeys says how many clients' keys are told apart. Those that have a label keep
// it.
func (m *Meter) LimitKeys(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.most = n
}

// label returns the label of a key's id.
func (c *clients) label(id string) string {
	if known, ok := c.named[id]; ok {
		return known
	}
	if len(c.named) >= c.most || printable(id) != id {
		return other
	}
	own := string([]byte(id)) // id may point into a request's buffer
	c.named[own] = own
	return own
}

func (c *clients) count(x *Exchange, outcome string) {
	key := c.label(x.Client)
	*c.exchanges.at(labels{key, outcome})++
	for _, t := range [...]struct {
		kind string
		n    int64
	}{{"input", x.Usage.Input}, {"output", x.Usage.Output}, {"cached", x.Usage.Cached}} {
		if t.n > 0 {
			*c.tokens.at(labels{key, t.kind}) += float64(min(t.n, tokensMax))
		}
	}
	if x.Cost > 0 {
		*c.cost.at(labels{key}) += x.Cost
	}
}
