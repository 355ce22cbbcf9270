package upstream

import (
	"context"
	"net/http"

	"nearside/catalog"
)

// Capacity is what a server itself says of how busy it is, with anybody's requests.
type Capacity struct {
	Running, Waiting int
}

// TellsCapacity says whether servers of a kind say how busy they are: those that do
// not say how many requests they serve at once.
func TellsCapacity(kind catalog.Kind) bool { return kind == catalog.KindVLLM }

// AskCapacity asks one place, a Config with one address, how busy it is. It says
// false when the server does not tell. What is asked costs the server nothing.
func AskCapacity(ctx context.Context, c Config, d Dialer) (Capacity, bool) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	a, err := newAsker(c, d)
	if err != nil {
		return Capacity{}, false
	}
	defer a.close()
	r, err := a.own(ctx, "/metrics")
	if err != nil || r.status != http.StatusOK {
		return Capacity{}, false
	}
	running, ok := metric(r.body, "vllm:num_requests_running")
	waiting, also := metric(r.body, "vllm:num_requests_waiting")
	return Capacity{Running: int(running), Waiting: int(waiting)}, ok && also
}
