package wire

import (
	"bytes"
	"mime/multipart"
	"strings"
	"testing"
)

func TestFormModelFindsTheField(t *testing.T) {
	part := func(head, value string) string { return "--B\r\n" + head + "\r\n\r\n" + value + "\r\n" }
	const cd = "Content-Disposition: form-data; name="
	model := part(cd+`"model"`, "whisper-1")
	file := part(cd+`"file"; filename="a.wav"`+"\r\nContent-Type: audio/wav", "RIFF\r\n--no\r\n\r\n--")
	f := func(body, want string, ok bool) {
		t.Helper()
		at, name, found := FormModel([]byte(body), "B")
		if found != ok || name != want || ok && string(at.Of([]byte(body))) != want {
			t.Errorf("FormModel(%q): got %q %v, want %q %v", body, name, found, want, ok)
		}
	}
	f(model+"--B--\r\n", "whisper-1", true)
	f("preamble\r\n"+model+"--B--", "whisper-1", true)
	f(file+model+"--B--\r\n", "whisper-1", true)
	f(model+file+"--B--\r\n", "whisper-1", true)
	f(part("content-disposition:form-data;name=model", "m")+"--B--", "m", true)
	f(part(cd+`"model"`, "")+"--B--", "", true)
	f("--B  \r\n"+strings.TrimPrefix(model, "--B\r\n")+"--B--", "whisper-1", true)
	f(file+"--B--\r\n", "", false)
	f(model+model+"--B--\r\n", "", false) // which one counts is a matter of the parser
	f(part(cd+`"model"; filename="x"`, "m")+"--B--", "", false)
	f(part(cd+`"MODEL"`, "m")+"--B--", "", false)
	f(part(cd+`"model"`, strings.Repeat("m", 2000))+"--B--", "", false)
	f(model, "", false) // cut off
	f("--B\r\n", "", false)
	f("", "", false)
	f(strings.Repeat(part(cd+`"x"`, "y"), 100)+model+"--B--", "", false)
	f("--BX\r\n", "", false)
}

func FuzzFormModelAgreesWithMimeMultipart(f *testing.F) {
	var seed bytes.Buffer
	w := multipart.NewWriter(&seed)
	w.SetBoundary("B")
	w.WriteField("model", "m")
	fw, _ := w.CreateFormFile("file", "f")
	fw.Write([]byte("\r\n--C"))
	w.Close()
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, body []byte) {
		at, name, ok := FormModel(body, "B")
		if !ok {
			return
		}
		if string(at.Of(body)) != name {
			t.Fatalf("span %q, name %q", at.Of(body), name)
		}
		form, err := multipart.NewReader(bytes.NewReader(body), "B").ReadForm(1 << 20)
		if err != nil {
			return // stricter about heads than we need to be
		}
		if v := form.Value["model"]; len(v) > 0 && v[0] != name {
			t.Fatalf("got %q, mime/multipart reads %q in %q", name, v, body)
		}
	})
}
