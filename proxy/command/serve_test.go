package command

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/rs/zerolog"

	"nearside/proxy/config"
)

// A stream that broke is matched with the model server's log by its time: one
// without a date or a zone cannot be.
func TestLogLinesCarryDateAndOffset(t *testing.T) {
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)`
	f := func(format, want string) {
		t.Helper()
		var out bytes.Buffer
		w := newLogWriter(&out, config.Log{Level: "info", Format: format, BufferBytes: 1 << 20})
		log := zerolog.New(w).With().Timestamp().Logger()
		log.Info().Msg("exchange")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%s\n got %q\nwant %s", format, out.String(), want)
		}
	}
	f("json", `"time":"`+stamp+`"`)
	f("console", `^(\x1b\[\d+m)?`+stamp+`(\x1b\[0m)? .*exchange`)
}
