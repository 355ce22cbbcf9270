package sim

import (
	"fmt"
	"strconv"
)

// Condition is how a server is as a whole. What scripts say stands above it.
type Condition string

// The conditions. Each server shows them as it was recorded to, or as its source
// has it, and the others refuse with a 503 in the words of the first that does.
const (
	IsReady    Condition = ""
	IsLoading  Condition = "loading"  // its model is being loaded: llama.cpp answers 503 to everything, /health too
	IsSwapping Condition = "swapping" // one model makes room for another: LM Studio answers 500 with a web page, and lists none as loaded
	IsFull     Condition = "full"     // its queue is full: Ollama and SGLang answer 503, llama.cpp's slots are busy, vLLM counts what waits
)

// Be sets how the server is from now on; requests in work go on.
func (s *Server) Be(c Condition) { s.is.Store(c) }

func (s *Server) condition() Condition {
	c, _ := s.is.Load().(Condition)
	return c
}

// conditioned answers what the condition has another answer for than the profile.
func (s *Server) conditioned(h *head, path string) *plan {
	c := s.condition()
	if c == IsReady {
		return nil
	}
	asked := asks(h)
	switch {
	case c == IsLoading && (asked || s.kit.profile == LlamaCPP):
		return s.failure(503, "unavailable_error", "Loading model")
	case c == IsSwapping && asked:
		return s.typed(500, "text/html; charset=utf-8", "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>Internal Server Error</pre>\n</body>\n</html>\n")
	case c == IsFull && asked && s.kit.profile == SGLang:
		return s.failure(503, "InternalServerError", "The request queue is full.")
	case c == IsFull && asked:
		return s.failure(503, "api_error", "server busy, please try again.  maximum pending requests exceeded")
	}
	return nil
}

// waiting is vLLM's count of the requests that wait.
func (s *Server) waiting() string {
	if s.condition() == IsFull {
		return "3.0"
	}
	_, n := s.lane.counts()
	return strconv.Itoa(n) + ".0"
}

// runningText is its count of those that run.
func (s *Server) runningText() string {
	n, _ := s.lane.counts()
	return strconv.Itoa(n) + ".0"
}

// queueTimes are vLLM's times in its queue, of which only the sum is simulated.
func (s *Server) queueTimes() string {
	n, waited := s.lane.sums()
	return fmt.Sprintf("# HELP vllm:request_queue_time_seconds Histogram of time spent in WAITING phase for request.\n# TYPE vllm:request_queue_time_seconds histogram\n"+
		"vllm:request_queue_time_seconds_bucket{le=\"+Inf\"} %d.0\nvllm:request_queue_time_seconds_count %d.0\nvllm:request_queue_time_seconds_sum %g\n", n, n, waited.Seconds())
}

// gauge is llama.cpp's value of a metric: of those that are simulated, else 0.
func (s *Server) gauge(name string) string {
	running, waiting := s.lane.counts()
	switch name {
	case "requests_processing":
		return strconv.Itoa(running)
	case "requests_deferred":
		return strconv.Itoa(waiting)
	}
	return "0"
}
