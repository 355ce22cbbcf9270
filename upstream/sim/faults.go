package sim

import (
	"fmt"
	"strings"
	"time"
)

// Fault is a way to fail that has a name.
type Fault struct {
	Name, Summary string
	Script        Script // Times is negative, for every model request, unless the summary says otherwise
}

// Faults returns all faults, those of whole answers before those of streams.
func Faults() []Fault {
	return []Fault{
		every("loading", "503: the model is being loaded", Status(503, "Loading model")),
		{"warming", "503 Loading model three times, then good answers", Loading(3)},
		every("busy", "429 with Retry-After: 2", Refuse429("2")),
		every("busy-bare", "429 without a Retry-After", Refuse429("")),
		every("busy-ms", "429 with retry-after-ms: 1500", Status(429, "too many requests", "retry-after-ms: 1500")),
		every("busy-date", "429 with Retry-After as a date of long ago", Refuse429("Wed, 21 Oct 2015 07:28:00 GMT")),
		every("busy-absurd", "429 with Retry-After: 31536000, a year", Refuse429("31536000")),
		every("busy-negative", "429 with Retry-After: -5", Refuse429("-5")),
		every("overloaded", "529: overloaded", Status(529, "Overloaded")),
		every("locked", "401: the key is refused", Status(401, "invalid API key")),
		every("forbidden", "403: the key may not", Status(403, "this key may not use this model")),
		every("missing", "404: no such model", Status(404, "model not found")),
		every("broken", "500: an error of the server's own", Status(500, "out of memory")),
		every("bad-gateway", "502 with a web page, as gateways answer", Page(502)),
		every("page", "200 with a web page in place of an answer", Page(200)),
		every("page-500", "500 with a web page, as while models are swapped", Page(500)),
		every("error-200", "200 with an error as its body, where events were asked too", ErrorIn200("out of memory")),
		every("empty", "200 without a body", Script{Steps: []Step{Reply(200, "")}}),
		every("bad-json", "200 with JSON that breaks off inside a complete body", Script{Steps: []Step{Reply(200, `{"id":"x","choices":[{"index":0,"mess`)}}),
		every("redirect", "307 to the address of a cloud's metadata", Redirect("http://169.254.169.254/latest/meta-data/")),
		every("moved", "301 to another host", Script{Steps: []Step{Reply(301, "", "Location: http://moved.invalid/v1/chat/completions")}}),

		every("silent", "takes the request and never answers", Silent()),
		every("head-only", "sends the head and nothing of the body", Stall("head")),
		every("reset", "resets the connection before an answer", Script{Steps: []Step{Reset()}}),
		every("hang-up", "closes the connection before an answer", Script{Steps: []Step{Close()}}),
		every("half-head", "closes the connection inside the head", Script{Steps: []Step{Raw("HTTP/1.1 200 OK\r\nContent-Ty"), Close()}}),
		every("garbage", "answers with bytes that are no HTTP", Script{Steps: []Step{Raw("\x16\x03\x01\x00\x05hello\r\n\r\n"), Close()}}),
		every("banner", "speaks first when a connection is accepted, as another kind of server does", Script{Accept: true, Steps: []Step{Raw("220 mail ready\r\n"), Close()}}),
		every("reset-accept", "resets each connection when it is accepted", Script{Accept: true, Steps: []Step{Reset()}}),
		every("stale", "closes the connection when a second request comes on it, without an answer", Stale()),
		every("close-after", "closes the connection after each answer without saying so", Script{Steps: []Step{Answer(), Close()}}),
		every("early", "answers 413 before the body was read", Script{Early: true, Steps: []Step{Fail(413, "the request is too large")}}),
		every("trailing", "writes further bytes after a complete answer", Script{Steps: []Step{Answer(), Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra")}}),
		every("informational", "sends 100 and 103 before the answer", Script{Steps: []Step{Raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"), Answer()}}),
		every("switching", "answers 101 and speaks another protocol", Script{Steps: []Step{Raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n"), Hold()}}),
		every("huge-head", "sends a head of 128 KiB", Script{Steps: []Step{Begin("X-Large: " + strings.Repeat("x", 128<<10)), Rest(), End()}}),
		every("many-headers", "sends 1000 header lines", Script{Steps: []Step{Begin(headerLines(1000)...), Rest(), End()}}),
		every("long-length", "promises 10 bytes more than a whole answer has, then closes", Script{Steps: []Step{Length(10), Answer()}}),
		every("short-length", "promises 10 bytes fewer than a whole answer has", Script{Steps: []Step{Length(-10), Answer()}}),
		every("eof", "ends the body with the connection, without a length", Script{Steps: []Step{EOF(), Answer()}}),
		every("eof-cut", "as eof, and it breaks off after the first content", Script{Steps: []Step{EOF(), Begin(), UpTo("content"), Close()}}),
		every("gzip", "compresses the answer, unasked", Script{Steps: []Step{Gzip(), Answer()}}),
		every("bomb", "a compressed body of 256 MiB", Bomb(256<<20)),
		every("no-type", "a good answer without a Content-Type", untyped()),

		every("stall", "streams its first token, then nothing", Stall("content")),
		every("stall-role", "streams what comes before content, then nothing", Stall("role")),
		every("cut", "closes the connection after the first token", Cut("content")),
		every("cut-role", "closes the connection after the role", Cut("role")),
		every("cut-finish", "closes the connection after the finish, without the last chunk", Cut("finish")),
		every("reset-stream", "resets the connection after the first token", Script{Steps: []Step{Begin(), UpTo("content"), Wait(settle), Reset()}}),
		every("error", "an error inside a stream that began well", ErrorAfter("content", "out of memory")),
		every("error-first", "an error as the first event of a stream", ErrorAfter("", "out of memory")),
		every("error-role", "an error after the role", ErrorAfter("role", "out of memory")),
		every("unfinished", "a stream that ends without a finish", Without("finish", "usage", "done")),
		every("no-done", "a stream without its [DONE] or message_stop", Without("done")),
		every("no-finish", "a stream with [DONE] or message_stop and without a finish", Without("finish", "usage")),
		every("no-usage", "a stream without its usage", Without("usage")),
		every("only-done", "a stream of nothing but [DONE] or message_stop", Script{Steps: []Step{Stream(), Done(), End()}}),
		every("after-done", "events after [DONE] or message_stop", Script{Steps: []Step{Begin(), Rest(), Piece("late"), End()}}),
		every("bad-event", "an event that is no JSON after the first token", Script{Steps: []Step{Begin(), UpTo("content"), Torn(), Rest(), End()}}),
		every("crlf", "lines of events end with CR LF", Script{Steps: []Step{Lines("crlf"), Answer()}}),
		every("cr", "lines of events end with CR", Script{Steps: []Step{Lines("cr"), Answer()}}),
		every("split", "each byte in a chunk of its own", Script{Steps: []Step{Split(1), Answer()}}),
		every("comments", "a comment before every event", Script{Steps: []Step{Comments(1), Answer()}}),
		every("prelude", "a byte order mark, comments, ids, retry and empty events before the events", Script{Steps: []Step{Begin(), Body("\xef\xbb\xbf: hello\n\nid: 1\nretry: 10\n\n\n\ndata:\n\n"), Rest(), End()}}),
		every("huge-event", "an event of 20 MiB", HugeEvent(20<<20)),
		every("endless-line", "a line that does not end", Script{Steps: []Step{Stream(), Body("data: "), Fill(64<<20, 'x'), Hold()}}),
		every("flood", "10000 events of one byte at once", flood(10000)),
	}
}

// settle is how long a reset waits for what was written before it: RST may
// overtake it otherwise.
const settle = 20 * time.Millisecond

// FaultNamed returns the fault of a name.
func FaultNamed(name string) (Fault, error) {
	for _, f := range Faults() {
		if f.Name == name {
			return f, nil
		}
	}
	return Fault{}, fmt.Errorf("no fault called %q", name)
}

func every(name, summary string, sc Script) Fault {
	sc.Name, sc.Times = name, -1
	return Fault{name, summary, sc}
}

// Status answers a request with an error in the profile's shape.
func Status(status int, message string, headers ...string) Script {
	return Script{Name: fmt.Sprint("status ", status), Steps: []Step{Fail(status, message, headers...)}}
}

// Refuse429 answers 429 with a Retry-After as given, or without one.
func Refuse429(after string) Script {
	if after == "" {
		return Status(429, "too many requests")
	}
	return Status(429, "too many requests", "Retry-After: "+after)
}

// Loading answers 503 Loading model to the next times requests.
func Loading(times int) Script {
	sc := Status(503, "Loading model")
	sc.Name, sc.Times = "loading", times
	return sc
}

// Page answers with a web page.
func Page(status int) Script {
	return Script{Name: "page", Steps: []Step{Reply(status, "<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in to the network</h1></body></html>\n", "Content-Type: text/html; charset=utf-8")}}
}

// ErrorIn200 answers 200 with an error in the profile's shape, whatever was asked.
func ErrorIn200(message string) Script {
	return Script{Name: "error in 200", Steps: []Step{Fail(200, message)}}
}

// Redirect answers 307 with a Location.
func Redirect(to string) Script {
	return Script{Name: "redirect", Steps: []Step{Reply(307, "", "Location: "+to)}}
}

// Silent never answers.
func Silent() Script { return Script{Name: "silent", Steps: []Step{Hold()}} }

// Stall sends the profile's answer through a kind of event (as UpTo), or only
// its head for "head", and holds the connection until the client leaves.
func Stall(after string) Script {
	return Script{Name: "stall", Steps: append(through(after), Hold())}
}

// Cut sends the profile's answer through a kind of event, or only its head for
// "head", and closes the connection between two chunks.
func Cut(after string) Script { return Script{Name: "cut", Steps: append(through(after), Close())} }

// ErrorAfter sends the profile's answer through a kind of event, or nothing for
// "", then an error as an event, and ends the stream. An answer that is not
// streamed is cut, or for "" is a 200 with an error.
func ErrorAfter(after, message string) Script {
	var steps []Step
	if after != "" {
		steps = through(after)
	}
	return Script{Name: "error after " + after, Steps: append(steps, ErrorEvent(message), End())}
}

func through(kind string) []Step {
	if kind == "head" {
		return []Step{Begin()}
	}
	return []Step{Begin(), UpTo(kind)}
}

// Without gives the profile's answer without some kinds of events. Answers that
// are not streamed stay whole.
func Without(kinds ...string) Script {
	return Script{Name: "without " + strings.Join(kinds, ", "), Steps: []Step{Begin(), Rest(kinds...), End()}}
}

// Stale closes the connection on the next request that is not its first, as a
// server does whose idle limit ran out: a pooled connection that has gone stale.
func Stale() Script {
	return Script{Name: "stale", Reused: true, Steps: []Step{Close()}}
}

// Bomb answers with n bytes that were compressed, about a thousandth of it.
func Bomb(n int) Script {
	return Script{Name: "bomb", Steps: []Step{Gzip(), Begin(), Body(`{"id":"`), Fill(n, 'a'), Body(`"}`), End()}}
}

// HugeEvent streams the profile's answer with an event of n bytes before its
// content.
func HugeEvent(n int) Script {
	return Script{Name: "huge event", Steps: []Step{Begin(), UpTo("role"), Bulk(n), Rest(), End()}}
}

func flood(n int) Script {
	return Script{Name: "flood", Steps: []Step{Begin(), UpTo("role"), Flood(n), Rest(), End()}}
}

func untyped() Script {
	return Script{Name: "no type", Steps: []Step{Untyped(), Answer()}}
}

func headerLines(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("X-Line-%d: %d", i, i)
	}
	return lines
}
