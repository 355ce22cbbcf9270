package shaping

import (
	"strings"
	"testing"

	"nearside/shaping/wire"
)

// What counts as an image decides where a request goes: one that is missed ends
// at a model that cannot see it, one too many is refused without need.
func TestMediaAreCountedWhereTheyStand(t *testing.T) {
	f := func(body string, want Media, addresses ...string) {
		t.Helper()
		var env wire.Envelope
		if err := wire.Scan([]byte(body), wire.ScanLimits{}, &env); err != nil {
			t.Fatal(err)
		}
		if got := MediaOf([]byte(body), &env); got != want {
			t.Errorf("MediaOf(%s)\n got %+v\nwant %+v", body, got, want)
		}
		if got := RemoteImages([]byte(body), &env); strings.Join(got, " ") != strings.Join(addresses, " ") {
			t.Errorf("RemoteImages(%s)\n got %q\nwant %q", body, got, addresses)
		}
	}
	f(`{"messages":[{"role":"user","content":"an image"}]}`, Media{})
	f(`{"messages":[{"content":[{"type":"text","text":"image"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]}`, Media{Images: 1})
	f(`{"messages":[{"content":[{"image_url":"http://e.com/a","type":"image_url"},{"type":"image_url","image_url":{"url":"https:\/\/e.com\/b"}},{"type":"image_url","image_url":{"url":"http://e.com/a"}}]}]}`,
		Media{Images: 3, Remote: 3}, "http://e.com/a", "https://e.com/b")
	f(`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}},{"type":"image_url"},{"type":"image_url","image_url":7}]}]}`, Media{Images: 3})
	f(`{"messages":[{"role":"tool","content":[{"type":"image_url","image_url":{"url":"https://e.com/a"}}]}]}`, Media{Images: 1, Remote: 1}, "https://e.com/a")
	f(`{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}},{"type":"video_url","video_url":{"url":"https://e.com/v"}}]}]}`, Media{Audio: 1, Video: 1})
	f(`{"input":"image"}`, Media{})
	f(`{"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://e.com/a"},{"type":"input_image","file_id":"f"}]},{"type":"function_call_output","output":[{"type":"input_image","image_url":"data:,x"}]}]}`,
		Media{Images: 3, Remote: 1}, "https://e.com/a")
	f(`{"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://e.com/a"}},{"type":"image","source":{"type":"base64","data":"AA"}},
		{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"https://e.com/b"}}]}]}]}`, Media{Images: 3, Remote: 2}, "https://e.com/a", "https://e.com/b")
	f(`{"messages":[{"content":[{"type":"tool_use","input":{"content":[{"type":"image"}],"type":"image"}},{"type":"tool_result","content":"image"}]}]}`, Media{})
	f(`{"messages":[{"content":{"type":"image_url"}},{"tool_calls":[{"type":"image"}]}],"tools":[{"type":"image"}]}`, Media{})
}

// Hot requests have no images; looking for them must cost such a request nothing.
func TestRequestsWithoutMediaAreNotWalked(t *testing.T) {
	body := []byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`)
	var env wire.Envelope
	if err := wire.Scan(body, wire.ScanLimits{}, &env); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { MediaOf(body, &env) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
