package proxy

import (
	"slices"
	"time"

	"nearside/upstream"
)

// holds finds out how many models a box holds at once, from what looks see loaded
// there and from what it says itself. It begins with any number, and takes a bound
// only where a model that was loaded just before is gone and another is there in its
// place, more than once; whenever more are seen at once the bound follows.
type holds struct {
	said   int      // configured; 0 for none, negative to learn it
	loaded []string // at the last look
	at     time.Time
	swaps  int // that were seen and speak for learned
	bound  int // learned; 0 for none
}

const (
	// holdsEvidence is how many swaps must have been seen.
	holdsEvidence = 2
	// holdsFresh is how old a look may be to be compared with the next: a model that
	// nobody asked for is unloaded after minutes.
	holdsFresh = 3 * time.Minute
	// holdsMost is from how many models at once a box is not short of room.
	holdsMost = 8
)

// most is how many it holds; 0 for any number.
func (h *holds) most() int {
	if h.said >= 0 {
		return h.said
	}
	return h.bound
}

// apply takes in what is configured and what a look saw.
func (h *holds) apply(said int, loaded []string, now time.Time) {
	h.said = said
	if len(loaded) == 0 { // it does not say, or has none now
		return
	}
	gone := slices.ContainsFunc(h.loaded, func(m string) bool { return !slices.Contains(loaded, m) })
	come := slices.ContainsFunc(loaded, func(m string) bool { return !slices.Contains(h.loaded, m) })
	if gone && come && now.Sub(h.at) < holdsFresh {
		h.swapped(len(loaded))
	}
	if h.bound > 0 && len(loaded) > h.bound {
		if h.bound = len(loaded); h.bound >= holdsMost {
			h.bound, h.swaps = 0, 0
		}
	}
	h.loaded, h.at = slices.Clone(loaded), now
}

func (h *holds) swapped(holds int) {
	if h.swaps++; h.swaps >= holdsEvidence && holds < holdsMost {
		h.bound = max(h.bound, holds)
	}
}

// swapping takes in that the server said so itself; it says whether that changed the
// bound.
func (h *holds) swapping(time.Time) bool {
	was := h.most()
	h.swapped(max(len(h.loaded), 1))
	return h.most() != was
}

// loadedModels are the models that a look saw in memory, those for embeddings apart:
// they are small and stay.
func loadedModels(found *upstream.Found) (all []string) {
	for i := range found.Models {
		if m := &found.Models[i]; m.Loaded && m.Type != "embeddings" && len(all) < holdsMost {
			all = append(all, m.ID)
		}
	}
	return all
}

// Said is a look's state of a provider with what the look saw of its slots and of
// the models that it holds.
func (b BackendState) Said(found *upstream.Found) BackendState {
	b.Slots, b.Loaded = found.Slots, loadedModels(found)
	return b
}
