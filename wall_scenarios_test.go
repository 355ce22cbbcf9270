package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/upstream/sim"
)

// How the verdicts come about. A cell passes when the client got what "right"
// says and nobody broke a rule; the rules that hold in every cell are in
// wallCell.ask (one end, no part as the whole, no secret, one receipt with the
// outcome, tokens counted once) and wallCell.alive. Beside it stands the verdict
// by the published rule, for a chat client that streams, of a proxy as it comes:
// a plain error where an answer was possible is "safe" there, and to go to the
// fallback at once where a retry of the primary was hoped for is "partial".

// begun writes the primary's answer through so many words.
func (c *wallCell) begun(words int) []sim.Step {
	if !c.stream {
		return []sim.Step{sim.Begin(), sim.UpTo("content")} // half of the body
	}
	before := map[string]int{"chat": 1, "responses": 4, "messages": 3}[c.dialect] // events of the sim before its first word
	return []sim.Step{sim.Begin(), sim.Next(before + words)}
}

// moved is the receipt's line for a primary that failed so and a fallback that
// answered.
func (c *wallCell) moved(outcome string) string {
	var all []string
	for one := range strings.SplitSeq(outcome, "|") {
		all = append(all, c.ref+"="+one+", "+c.next+"=ok")
	}
	return strings.Join(all, "|")
}

// told holds an error that came after content: what was said stays said, and
// nothing is asked behind it.
func (c *wallCell) told(words int) {
	c.must("what was said", c.end.kind != endError || c.end.text == strings.Join(wallWords[:words], " "), "the client has %q", c.end.text)
	c.tried(1, 0)
}

var scenarios = []scenario{
	{
		id: "S01", title: "429 with Retry-After",
		fault: "The first request gets 429 with Retry-After: 2, later ones an answer.",
		right: "The fallback answers at once; the primary is left alone for the time it asked for, by every request, and then asked again.",
		play: func(c *wallCell) {
			c.primary.does(sim.Refuse429("2"), sim.Script{})
			c.ask()
			c.wants(true)
			c.served(c.next, c.moved("status_429|rate_limit"))
			c.tried(1, 1)
			c.published("the primary is tried again within the call", false)
			c.counted() // of the first call
			first := c.primary.requests()
			kept := *c
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(patience); c.primary.count() == 1; <-tick.C {
				if time.Now().After(end) {
					c.must("the primary is asked again", false, "not within %v", patience)
					return
				}
				c.ask()
				c.wants(true)
			}
			again := c.primary.requests()
			if len(first) == 1 && len(again) > 1 {
				gap := again[1].At.Sub(first[0].At)
				c.must("Retry-After", gap >= 1900*time.Millisecond, "asked again after %v", gap)
			}
			c.got, c.end, c.took, c.receipt, c.rescued = kept.got, kept.end, kept.took, kept.receipt, kept.rescued
		},
	},
	{
		id: "S02", title: "429 without Retry-After, for good",
		fault: "Every request gets 429 and no Retry-After.",
		right: "The fallback answers; the primary was asked once.",
		play: func(c *wallCell) {
			c.primary.does(sim.Refuse429(""))
			c.ask()
			c.wants(true)
			c.served(c.next, c.moved("status_429|rate_limit"))
			c.tried(1, 1)
		},
	},
	{
		id: "S03", title: "500 once, then well",
		fault: "The first request gets 500, later ones an answer.",
		right: "The client gets an answer, from whom does not matter; no more than two requests at the primary.",
		play: func(c *wallCell) {
			c.primary.does(sim.Status(500, "The server had an error while processing your request."), sim.Script{})
			c.ask()
			c.wants(true)
			c.must("requests at the primary", c.primary.count() <= 2, "%d", c.primary.count())
			c.published("the primary is tried a second time", c.primary.count() == 2)
			if c.primary.count() == 1 {
				c.served(c.next, c.moved("status_500|server_error"))
			}
		},
	},
	{
		id: "S04", title: "503 for good",
		fault: "Every request gets 503, overloaded.",
		right: "The fallback answers; the primary was asked once.",
		play: func(c *wallCell) {
			c.primary.does(sim.Status(503, "The engine is currently overloaded. Please try again later."))
			c.ask()
			c.wants(true)
			c.served(c.next, c.moved("status_503|overloaded|saturated"))
			c.tried(1, 1)
		},
	},
	{
		id: "S05", title: "reset before the headers",
		fault: "The first connection is reset before a byte of an answer, later ones answer.",
		right: "The client gets an answer; no more than two requests at the primary.",
		play: func(c *wallCell) {
			c.primary.does(scripted(sim.Reset()), sim.Script{})
			c.ask()
			c.wants(true)
			c.must("requests at the primary", c.primary.count() <= 2, "%d", c.primary.count())
			if c.primary.count() == 1 {
				c.served(c.next, c.moved("connection_reset|connection_closed"))
			}
		},
	},
	{
		id: "S06", title: "no answer at all",
		fault: "The primary takes the request and says nothing for 120 s.",
		right: "After one timeout of 30 s the primary is left, its connection closed, and the fallback answers; the primary was asked once. The whole call ends within 100 s.",
		play: func(c *wallCell) {
			c.primary.does(scripted(sim.Wait(c.w.of(120*time.Second)), sim.Close()))
			c.ask()
			c.wants(true)
			c.served(c.next, c.moved("headers_timeout|first_content_timeout"))
			c.tried(1, 1)
			c.within(100 * time.Second)
			c.left()
		},
	},
	{
		id: "S07", title: "slow first token", variants: []string{"near", "far"},
		fault: "The head comes at once, the first token after 20 s, the rest as ever.",
		right: "A near backend without a limit of its own is waited for, since it may be reading a long prompt, and answers. A far one that was given a limit for its first token (10 s) is left, and the fallback answers within 15 s.",
		play: func(c *wallCell) {
			c.primary.does(scripted(sim.Begin(), sim.Wait(c.w.of(20*time.Second)), sim.Answer()))
			c.ask()
			c.wants(true)
			if c.variant == "near" {
				c.served(c.ref, c.ref+"=ok")
				c.tried(1, 0)
				return
			}
			c.served(c.next, c.moved("first_content_timeout"))
			c.tried(1, 1)
			c.within(15 * time.Second)
			c.left()
		},
	},
	{
		id: "S08", title: "stream cut in its middle", variants: []string{"", "continued"},
		fault: "The connection is closed after 40 of 60 tokens, between two chunks.",
		right: "A stream ends with its dialect's error event behind what was said, never with a finish; with continueStreams the fallback goes on to the whole answer where it can. An answer that was not streamed comes whole from the fallback.",
		play: func(c *wallCell) {
			c.primary.does(scripted(append(c.begun(40), sim.Close())...))
			c.broken(40, "truncated|connection_closed")
		},
	},
	{
		id: "S09", title: "stream stalls", variants: []string{"", "continued"},
		fault: "After 20 tokens the connection stays open and silent.",
		right: "As S08, within 45 s, and the primary's connection is closed.",
		play: func(c *wallCell) {
			c.primary.does(scripted(append(c.begun(20), sim.Hold())...))
			c.broken(20, "gap_timeout")
			c.within(45 * time.Second)
			c.left()
		},
	},
	{
		id: "S10", title: "malformed event", variants: []string{"", "continued"},
		fault: "The tenth event is no JSON, the rest is as ever.",
		right: "What it said is unknown, so the answer is not whole: as S08. Nothing of the malformed event reaches the client.",
		play: func(c *wallCell) {
			if !c.stream {
				c.primary.does(scripted(sim.Reply(200, `{"id":"x","choices":[{"index":0,"mess`)))
			} else {
				torn := sim.Data(`{"id":"x","type":"response.output_text.delta","torn`)
				if c.dialect != "chat" {
					torn = sim.Event("content_block_delta", `{"type":"content_block_delta","torn`)
				}
				c.primary.does(scripted(append(c.begun(9), torn, sim.Answer())...))
			}
			c.broken(9, "malformed_chunk|malformed_answer|truncated")
			c.must("no garbage", !strings.Contains(c.got.body, `torn`), "%s", c.got.body)
		},
	},
	{
		id: "S11", title: "no [DONE]", streams: true,
		fault: "A whole stream, but its last event (the sentinel, message_stop) is missing.",
		right: "The answer is whole, with usage, and ends at once as its dialect has it.",
		play: func(c *wallCell) {
			c.primary.does(sim.Without("done"))
			c.ask()
			c.wants(true)
			c.served(c.ref, c.ref+"=ok")
			c.tried(1, 0)
			c.within(8 * time.Second)
		},
	},
	{
		id: "S12", title: "context length exceeded", variants: []string{"", "larger"},
		fault: "Every request gets 400, context_length_exceeded.",
		right: "The client hears it, with its code, since agents compact on it; nobody else is asked. With overflow.largerContext a target with a larger window answers. The primary was asked once.",
		play: func(c *wallCell) {
			c.primary.does(sim.Status(400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9631 tokens. Please reduce the length of the messages."))
			c.ask()
			if c.variant == "larger" {
				c.wants(true)
				c.served(c.next, c.moved("context_length_exceeded|context_overflow"))
				c.tried(1, 1)
				return
			}
			c.wants(false)
			c.tried(1, 0)
			c.must("the status", c.got.status == 400 || c.held(), "%d", c.got.status)
			if c.dialect == "messages" { // which knows it by its words
				c.must("the words", strings.Contains(c.end.message, "maximum context length"), "%s", c.got.body)
			} else {
				c.must("the code", c.end.code == "context_length_exceeded", "%s", c.got.body)
			}
		},
	},
	{
		id: "S13", title: "content filter",
		fault: "Every request gets 400, content_policy_violation.",
		right: "The client hears it, with its reason; nobody else is asked behind the back of who filters.",
		play: func(c *wallCell) {
			body := `{"error":{"message":"Your request was rejected by the safety system.","type":"invalid_request_error","param":null,"code":"content_policy_violation"}}`
			if c.dialect == "messages" {
				body = `{"type":"error","error":{"type":"invalid_request_error","message":"Your request was rejected by the safety system."}}`
			}
			c.primary.does(scripted(sim.Reply(400, body)))
			c.ask()
			c.wants(false)
			c.tried(1, 0)
			c.must("the reason", (c.got.status == 400 || c.held()) && strings.Contains(c.end.message, "safety system"), "%d %s", c.got.status, c.got.body)
			if c.dialect != "messages" {
				c.must("the code", c.end.code == "content_policy_violation", "%s", c.got.body)
			}
		},
	},
	{
		id: "S14", title: "cut, and the fallback takes no prefill", streams: true, variants: []string{"", "continued"},
		fault: "As S08, and the fallback refuses a conversation that ends with the assistant's words.",
		right: "The stream ends with an error event that tells of the cut, not of the fallback's refusal; never with a finish.",
		play: func(c *wallCell) {
			c.primary.does(scripted(append(c.begun(40), sim.Close())...))
			const refusal = "This model does not support assistant message prefill."
			c.fallback.does(scripted(sim.Reply(400, `{"error":{"message":"`+refusal+`","type":"invalid_request_error","param":"messages","code":"invalid_prefill"}}`)))
			c.ask()
			if c.variant == "continued" && c.rescued { // there are other ways to ask for the rest
				return
			}
			c.wants(false)
			c.must("what was said", strings.HasPrefix(c.end.text, strings.Join(wallWords[:40], " ")), "the client has %q", c.end.text)
			c.must("the cut is told", !strings.Contains(c.end.message, refusal), "the client hears %q", c.end.message)
			c.must("requests at the primary", c.primary.count() == 1, "%d", c.primary.count())
			if c.variant == "" {
				c.tried(1, 0)
			}
		},
	},
	{
		id: "S15", title: "flapping", streams: true,
		fault: "The primary answers 503 for 60 s and is well then; 20 requests, one every 4 s.",
		right: "Every request is answered; the dead primary gets no more than eight of the fifteen, and is back within 30 s (eight requests) of its recovery.",
		play:  flapping,
	},
	{
		id: "S16", title: "accounting", variants: []string{"books"},
		fault: "Every request gets 503, the fallback answers.",
		right: "The client and the receipt name the fallback and its tokens, once; the failed attempt is listed and has none.",
		play: func(c *wallCell) {
			c.primary.does(sim.Status(503, "The engine is currently overloaded. Please try again later."))
			c.ask()
			c.wants(true)
			c.served(c.next, c.moved("status_503|overloaded|saturated"))
			c.tried(1, 1)
			attempts := list(c.receipt["attempts"])
			c.must("the receipt", len(attempts) == 2 && strings.HasPrefix(c.next, str(c.receipt["provider"])+"/") && str(c.receipt["route"]) == "far", "%v", c.receipt)
			near, _, _ := strings.Cut(c.ref, "/")
			far, _, _ := strings.Cut(c.next, "/") // both are this cell's own
			c.must("no tokens of the primary", c.w.tokensOf(near) == 0, "%d", c.w.tokensOf(near))
			c.must("the fallback's tokens once", c.w.tokensOf(far) == c.end.output, "%d counted, the client was told %d", c.w.tokensOf(far), c.end.output)
		},
	},
}

// broken plays what breaks after content: of a stream so many words were said.
func (c *wallCell) broken(words int, outcome string) {
	if c.variant == "continued" {
		c.fallback.decides(goesOn)
	}
	c.ask()
	switch {
	case !c.stream:
		c.wants(true)
		c.served(c.next, c.moved(outcome))
		c.tried(1, 1)
	case c.variant == "continued" && c.dialect != "messages": // a copied message is not gone on with
		c.wants(true)
		c.must("requests at the primary", c.primary.count() == 1, "%d", c.primary.count())
		c.must("requests at the fallback", c.fallback.count() == 1, "%d", c.fallback.count())
	default:
		c.wants(false)
		c.told(words)
	}
}

// goesOn answers with the rest of the wall's text when the conversation ends
// with a part of it, and with the whole of it otherwise.
func goesOn(r sim.Request) sim.Script {
	var v struct {
		Stream   bool `json:"stream"`
		Messages []struct {
			Role    string `json:"role"`
			Content any    `json:"content"`
		} `json:"messages"`
	}
	if json.Unmarshal(r.Body, &v) != nil || len(v.Messages) == 0 || !v.Stream {
		return sim.Script{}
	}
	last := v.Messages[len(v.Messages)-1]
	part, _ := last.Content.(string)
	if last.Role != "assistant" || part == "" || !strings.HasPrefix(wallText, part) {
		return sim.Script{}
	}
	steps := []sim.Step{sim.Stream()}
	words := 0
	for word := range strings.SplitAfterSeq(wallText[len(part):], " ") {
		steps = append(steps, sim.Piece(word))
		words++
	}
	end := `{"id":"sim","object":"chat.completion.chunk","created":1,"model":"sim","choices":[%s]%s}`
	return scripted(append(steps, sim.Data(fmt.Sprintf(end, `{"index":0,"delta":{},"finish_reason":"stop"}`, "")),
		sim.Data(fmt.Sprintf(end, "", fmt.Sprintf(`,"usage":{"prompt_tokens":50,"completion_tokens":%d,"total_tokens":%d}`, words, 50+words))), sim.Done(), sim.End())...)
}

// flapping is S15.
func flapping(c *wallCell) {
	began := time.Now()
	well := began.Add(c.w.of(60 * time.Second))
	c.primary.decides(func(sim.Request) sim.Script {
		if time.Now().Before(well) {
			return sim.Status(503, "The engine is currently overloaded. Please try again later.")
		}
		return sim.Script{}
	})
	back, waited := time.Duration(0), 0 // the time, and the requests, from its recovery to its first answer
	tick := time.NewTicker(c.w.of(4 * time.Second))
	defer tick.Stop()
	during := 0
	for i := 0; i < 20 || back == 0 && i < 40; i++ { // up to twenty more until it is back
		c.ask()
		c.wants(true)
		if time.Now().Before(well) {
			during = c.primary.count()
		} else if back == 0 {
			if waited++; strings.Contains(attemptsOf(c.receipt), c.ref+"=ok") {
				back = time.Since(well)
			}
		}
		<-tick.C
	}
	c.notes = append(c.notes, fmt.Sprintf("%d requests at the dead primary", during))
	c.must("attempts at the dead primary", during > 0 && during <= 8, "%d", during)
	c.must("back on the primary", back > 0 && waited <= 8, "after %v and %d requests", back, waited) // one every 4 s
	c.w.t.Logf("%s: %d attempts at the dead primary, back %v after its recovery", c.name(), during, back.Round(time.Millisecond))
}

// tokensOf is how many output tokens the metrics have for a provider.
func (r *running) tokensOf(provider string) int {
	for line := range strings.Lines(r.get("/metrics").body) {
		if strings.HasPrefix(line, `nearside_tokens_total{kind="output",provider="`+provider+`"}`) {
			n, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
			return int(n)
		}
	}
	return 0
}
