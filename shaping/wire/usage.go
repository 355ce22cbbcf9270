package wire

import "bytes"

// FindUsage reads what a backend says it counted from an answer, a stream's
// chunk or event, or a usage object, at at: usage at the top, in response
// (Responses events), in message (Messages' start) or in the first choice;
// without that llama.cpp's timings. It says whether there were any counts.
//
// Only what is said replaces what u holds, so that the events of one stream may
// be read into the same Usage (Messages tells the input first and the output
// last). Whatever the dialect, u.Input includes what came from the cache: where
// a backend counts that apart it is added. Total is at least the sum.
func FindUsage(p []byte, at Span, u *Usage) bool {
	// Nearly every chunk of a stream says nothing of usage: looking for the
	// words costs a fraction of walking its members.
	text := p[min(at.Start, len(p)):min(max(at.Start, at.End), len(p))]
	if !bytes.Contains(text, []byte("usage")) && !bytes.Contains(text, []byte("timings")) && !bytes.Contains(text, []byte("_tokens")) {
		return false
	}
	var usage, timings Span
	direct := false
	for it := Members(p, at); it.Next(); {
		open := p[it.Value.Start] == '{'
		switch {
		case it.Is("usage"):
			if open {
				usage = it.Value
			}
		case it.Is("timings"):
			if open {
				timings = it.Value
			}
		case usage.Present():
		case it.Is("response"), it.Is("message"):
			if open {
				usage, _ = Get(p, it.Value, "usage")
			}
		case it.Is("choices"):
			usage, _ = Get(p, it.Value, "0", "usage")
		case it.Is("prompt_tokens"), it.Is("completion_tokens"), it.Is("input_tokens"), it.Is("output_tokens"):
			direct = true
		}
	}
	if direct && !usage.Present() {
		usage = at
	}
	return readUsage(p, usage, u) || readTimings(p, timings, u)
}

// ReadUsage is FindUsage for a place that is known to hold the usage object.
func ReadUsage(p []byte, at Span, u *Usage) bool { return readUsage(p, at, u) }

// readUsage reads a usage object.
func readUsage(p []byte, at Span, u *Usage) bool {
	if !at.Present() {
		return false
	}
	const absent = -1
	var (
		input, output, total        int64 = absent, absent, absent
		cached, cacheWrite, thought int64 = absent, absent, absent
		apart                       bool  // the cache is counted apart from the input
	)
	for it := Members(p, at); it.Next(); {
		switch p[it.Value.Start] {
		case '{':
			switch string(it.Key.Of(p)) {
			case "prompt_tokens_details", "input_tokens_details":
				for in := Members(p, it.Value); in.Next(); {
					switch string(in.Key.Of(p)) {
					case "cached_tokens":
						countOf(p, in.Value, &cached)
					case "cache_write_tokens", "cache_creation_tokens":
						countOf(p, in.Value, &cacheWrite)
					}
				}
			case "completion_tokens_details", "output_tokens_details":
				for in := Members(p, it.Value); in.Next(); {
					switch string(in.Key.Of(p)) {
					case "reasoning_tokens", "thinking_tokens":
						countOf(p, in.Value, &thought)
					}
				}
			}
			continue
		}
		n, ok := Int(it.Value.Of(p))
		if !ok {
			continue
		}
		switch string(it.Key.Of(p)) {
		case "prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "prompt_n", "input":
			input = n
		case "completion_tokens", "output_tokens", "completionTokens", "outputTokens", "predicted_n", "output":
			output = n
		case "total_tokens", "totalTokens", "total":
			total = n
		case "cached_tokens", "prompt_cache_hit_tokens":
			cached = max(cached, n)
		case "cache_read_input_tokens", "cacheRead", "cache_read":
			cached, apart = n, true
		case "cache_creation_input_tokens", "cacheWrite", "cache_write":
			cacheWrite, apart = n, true
		case "reasoning_tokens":
			thought = max(thought, n)
		}
	}
	if max(input, output, total, cached) == absent {
		return false
	}
	if cached != absent {
		u.Cached = cached
	}
	if cacheWrite != absent {
		u.CacheWrite = cacheWrite
	}
	if thought != absent {
		u.Reasoning = thought
	}
	if input != absent {
		if apart {
			input += max(cached, 0) + max(cacheWrite, 0)
		}
		u.Input = input
	}
	if output != absent {
		u.Output = output
	}
	u.Total = max(total, u.Input+u.Output)
	return true
}

// countOf reads a count where there is one.
func countOf(p []byte, at Span, n *int64) {
	if k, ok := Int(at.Of(p)); ok {
		*n = k
	}
}

// readTimings reads llama.cpp's timings, whose prompt_n leaves out what came
// from the cache.
func readTimings(p []byte, at Span, u *Usage) bool {
	if !at.Present() {
		return false
	}
	found := false
	var input, cached int64
	for it := Members(p, at); it.Next(); {
		n, ok := Int(it.Value.Of(p))
		if !ok {
			continue
		}
		switch string(it.Key.Of(p)) {
		case "prompt_n":
			input, found = n, true
		case "cache_n":
			cached = n
		case "predicted_n":
			u.Output, found = n, true
		}
	}
	if found {
		u.Input, u.Cached = input+cached, cached
		u.Total = u.Input + u.Output
	}
	return found
}
