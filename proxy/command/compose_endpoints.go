package command

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"nearside/proxy"
	"nearside/upstream"
)

// seenKey names what was seen at one place of a provider.
func seenKey(id, endpoint string) string {
	if endpoint == "" {
		return id
	}
	return id + "@" + endpoint
}

// endpointStates are in the order in which one speaks for all: a provider is as
// well as its best endpoint.
var endpointStates = []string{upstream.StateReady, upstream.StateAsleep, upstream.StateLoading, upstream.StateFailing, upstream.StateMisconfigured, "unreachable"}

// lookedAt is what was seen of a provider, and its state: of all its endpoints
// together, where it has several. A model that several list has the smallest of
// their windows, since a conversation may come to any of them.
func (c *composer) lookedAt(id string) (found upstream.Found, state proxy.BackendState, ok bool) {
	i := slices.IndexFunc(c.file.Backends, func(b upstream.Config) bool { return b.ID == id })
	if i < 0 || len(c.file.Backends[i].Endpoints) == 0 {
		found, ok = c.seen[id]
		return found, stateOf(id, found), ok
	}
	best := len(endpointStates)
	var not []string
	for _, e := range c.file.Backends[i].Endpoints {
		f, looked := c.seen[seenKey(id, e.Name)]
		if !looked {
			continue
		}
		ok = true
		st := stateOf(id, f)
		state.Endpoints = append(state.Endpoints, proxy.EndpointSeen{Name: e.Name, State: st.State, Detail: st.Detail, Slots: f.Slots, Late: st.Late})
		if st.State != upstream.StateReady && !e.Drain {
			not = append(not, e.Name+" is "+st.State)
		}
		rank := slices.Index(endpointStates, st.State)
		if rank < 0 {
			rank = len(endpointStates) - 1
		}
		if e.Drain {
			rank += len(endpointStates) // speaks only where nobody else does
		}
		models, first := found.Models, best == len(endpointStates) && found.URL == ""
		if first || rank < best {
			best, found, state.State, state.Detail = rank, f, st.State, st.Detail
		}
		found.Models = mergedModels(models, f.Models)
	}
	if len(not) > 0 {
		state.Detail = strings.TrimPrefix(state.Detail+"; "+strings.Join(not, ", "), "; ")
	}
	return found, state, ok
}

// mergedModels is what two servers list together.
func mergedModels(all, more []upstream.FoundModel) []upstream.FoundModel {
	all = slices.Clone(all)
	for _, m := range more {
		i := slices.IndexFunc(all, func(had upstream.FoundModel) bool { return had.ID == m.ID })
		switch {
		case i < 0:
			all = append(all, m)
		case m.ContextWindow > 0 && (all[i].ContextWindow == 0 || m.ContextWindow < all[i].ContextWindow):
			all[i].ContextWindow = m.ContextWindow
		}
	}
	return all
}

// endpointRows lists the endpoints of a provider that has several.
func endpointRows(snap *proxy.Snapshot, id string) [][]string {
	i := slices.IndexFunc(snap.Backends, func(b upstream.Config) bool { return b.ID == id })
	if i < 0 {
		return nil
	}
	var rows [][]string
	for _, e := range snap.Backends[i].Endpoints {
		state := "not asked"
		for _, seen := range snap.States[id].Endpoints {
			if seen.Name == e.Name {
				state = seen.State
				if seen.Detail != "" {
					state += ": " + seen.Detail
				}
			}
		}
		if e.Drain {
			state = "drained, " + state
		}
		rows = append(rows, []string{e.Name, e.URL, "weight " + strconv.FormatFloat(e.Weight, 'g', -1, 64), state})
	}
	return rows
}

// reportEndpoints prints the endpoints of all providers that have several.
func reportEndpoints(w io.Writer, snap *proxy.Snapshot, title string) {
	for _, p := range snap.Catalog.Providers {
		if rows := endpointRows(snap, p.ID); rows != nil {
			fmt.Fprintf(w, title, p.ID)
			table(w, "  ", rows)
		}
	}
}
