package load

import (
	"fmt"
	"math"
)

// Search looks for the highest rate at which things go well.
type Search struct {
	Low    float64 // where it begins
	High   float64 // what it does not go beyond
	Within float64 // how near it comes, as a share of the rate: 0.1 is 10 %
	Tries  int     // at most
}

// Check says what is wrong with a search.
func (s *Search) Check() error {
	switch {
	case s.Low <= 0 || s.High < s.Low || math.IsInf(s.High, 0) || math.IsNaN(s.High):
		return fmt.Errorf("a search goes from a rate above 0 to one that is not lower, not from %g to %g", s.Low, s.High)
	case s.Within <= 0 || s.Within > 1:
		return fmt.Errorf("a search comes as near as a share above 0 and at most 1, not %g", s.Within)
	case s.Tries < 1:
		return fmt.Errorf("a search needs a try")
	}
	return nil
}

// Try is one rate that was tried.
type Try struct {
	Rate float64 `json:"rate"`
	Good bool    `json:"good"`
	Why  string  `json:"why,omitempty"` // not, in words
}

// Found is what a search came to. Rate is the highest that went well and Fails the
// lowest that did not, 0 where none did.
type Found struct {
	Rate  float64 `json:"rate"`
	Fails float64 `json:"fails_at,omitempty"`
	Tried []Try   `json:"tried"`
	// Why it ended: the two are near enough, or why not.
	End string `json:"end"`
}

// Run searches: it doubles the rate from Low until one does not go well, and halves
// what is between (by their geometric mean) until it is narrow enough. try runs a load
// at a rate; stop ends the search before it is done.
func (s *Search) Run(try func(rate float64) (good bool, why string, stop bool)) Found {
	var f Found
	rate := s.Low
	for range s.Tries {
		good, why, stop := try(rate)
		if stop {
			f.End = "stopped"
			return f
		}
		f.Tried = append(f.Tried, Try{rate, good, why})
		if good {
			f.Rate = max(f.Rate, rate)
		} else if f.Fails == 0 || rate < f.Fails {
			f.Fails = rate
		}
		switch {
		case !good && rate == s.Low:
			f.End = fmt.Sprintf("the lowest rate, %s a second, is too much already", short(s.Low))
			return f
		case good && rate == s.High:
			f.End = fmt.Sprintf("the highest rate, %s a second, is not too much yet", short(s.High))
			return f
		case f.Fails == 0:
			rate = min(2*rate, s.High)
		case f.Fails <= f.Rate*(1+s.Within):
			f.End = fmt.Sprintf("within %g %%", math.Round(100*(f.Fails/f.Rate-1)*10)/10)
			return f
		default:
			rate = math.Sqrt(f.Rate * f.Fails)
		}
	}
	f.End = fmt.Sprintf("after %d tries", s.Tries)
	return f
}
