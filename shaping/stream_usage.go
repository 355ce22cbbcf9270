package shaping

import "nearside/shaping/wire"

// findUsage reads the usage object at v of p.
func findUsage(p []byte, v wire.Span) (u wire.Usage, ok bool) {
	for it := wire.Members(p, v); it.Next(); {
		ok = true
		n, _ := wire.Int(it.Value.Of(p))
		switch string(it.Key.Of(p)) {
		case "prompt_tokens", "input_tokens":
			u.Input = n
		case "completion_tokens", "output_tokens":
			u.Output = n
		case "total_tokens":
			u.Total = n
		}
	}
	return u, ok
}
