package proxy

import (
	"time"

	"nearside/proxy/access"
)

// StatusClient is one key of clients that is valid: never the key, nor its hash.
type StatusClient struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Operator bool      `json:"operator,omitempty"`
	SeesAll  bool      `json:"sees_all,omitempty"`
	Limits   []string  `json:"limits,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	access.Used
}

// statusClients lists the keys of clients, with what they have used.
func (s *Server) statusClients(keys *access.Table) []StatusClient {
	used := s.accounts.Used(false)
	all := []StatusClient{}
	for _, g := range keys.Grants() {
		all = append(all, StatusClient{ID: g.ID, Name: g.Name(), Operator: g.Operator, SeesAll: g.SeesAll, Limits: g.Limits.Words(), Expires: g.Expires, Used: used[g.ID]})
	}
	return all
}
