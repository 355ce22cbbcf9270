package config

import (
	"strconv"

	"nearside/proxy"
	"nearside/proxy/capture"
)

// captureShape is proxy.capture.
func captureShape(d proxy.Config, dur, plus *shape) *shape {
	c := &d.Capture
	return obj(
		leaf("keys", listOf(&shape{kind: text}), "Whose requests and answers are kept, to see what an agent really sends: ids of keys, \"*\" for everybody. Empty for nobody's. Headers with credentials, what looks like a key and what data URLs hold are masked (nearside captures)."),
		ours("bodyBytes", plus, strconv.Itoa(c.Body), "What is kept at the most of a request, and as much of its answer."),
		ours("redact", listOf(textLike(wrongPattern)), "", "What else is masked in bodies: regular expressions as Go has them."),
		ours("maxAge", dur, inSeconds(c.MaxAge), "How long a capture is kept. A change of this and of the two below needs a restart."),
		ours("maxBytes", plus, strconv.FormatInt(c.MaxBytes, 10), "What all captures together may take; the oldest go first."),
		ours("queueBytes", plus, strconv.Itoa(c.Queue), "Bodies that may wait to be written: no exchange waits for the disk. What is beyond is lost and counted."),
	)
}

func wrongPattern(text string) string {
	if _, err := capture.NewRedaction([]string{text}); err != nil {
		return err.Error()
	}
	return ""
}

func (l *loader) capture(n node, c *proxy.CaptureConfig) {
	for _, item := range n.get("keys").items() {
		c.Keys = append(c.Keys, item.text())
	}
	var patterns []string
	for _, item := range n.get("redact").items() {
		patterns = append(patterns, item.text())
	}
	if redaction, err := capture.NewRedaction(patterns); err == nil && len(patterns) > 0 { // an error was told by the shape
		c.Redact = redaction
	}
	n.setWhole("bodyBytes", &c.Body)
	n.setWhole("queueBytes", &c.Queue)
	n.setSpan("maxAge", &c.MaxAge)
	if at := n.get("maxBytes"); at.there() {
		c.MaxBytes = int64(at.whole())
	}
}
