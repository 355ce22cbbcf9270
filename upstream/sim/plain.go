package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// plain answers the endpoints without a dialect; nil when the path is none of
// them or the profile does not have it.
func (s *Server) plain(h *head, path string, body []byte) *plan {
	k := s.kit
	switch path {
	case "/v1/embeddings":
		switch {
		case k.profile == MLX:
			return nil
		case s.has("embeddings-501"):
			return s.failure(501, "", "This server does not support embeddings. Start it with `--embeddings`")
		}
		return s.decoded(body, s.embeddings)
	case "/v1/rerank", "/rerank":
		switch k.profile {
		case Generic, VLLM, SGLang:
			return s.decoded(body, s.rerank)
		case LlamaCPP:
			return s.failure(501, "", "This server does not support reranking. Start it with `--reranking`")
		}
	case "/v1/moderations":
		if k.profile == Generic {
			return s.decoded(body, func(r raws) *plan {
				flagged := strings.Contains(strings.ToLower(r.text("input")), "forbidden")
				return s.json(200, []byte(js(object{"id": s.id("modr-"), "model": r.text("model"), "results": []any{object{"flagged": flagged,
					"categories": object{"violence": flagged}, "category_scores": object{"violence": 0.01}, "category_applied_input_types": object{"violence": []string{"text"}}}}})))
			})
		}
	case "/v1/images/generations":
		if k.profile == Generic {
			return s.decoded(body, func(r raws) *plan {
				return s.json(200, []byte(js(object{"created": s.now(), "data": []any{object{"b64_json": onePixel, "revised_prompt": r.text("prompt")}}})))
			})
		}
	case "/v1/audio/speech":
		if k.profile == Generic {
			return s.decoded(body, func(r raws) *plan {
				p := s.typed(200, "audio/mpeg", "")
				p.stream = true
				piece := bytes.Repeat([]byte{0xff, 0xfb, 0x90, 0}, 512)
				for range 4 {
					p.events = append(p.events, event{kindContent, piece})
				}
				s.timed(p, r.text("model"), len(r.text("input"))/4, 4)
				return p
			})
		}
	case "/v1/audio/transcriptions", "/v1/audio/translations":
		switch k.profile {
		case Generic, VLLM:
			return s.transcription(h, body)
		}
	}
	return nil
}

// onePixel is a PNG of one pixel.
const onePixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func (s *Server) decoded(body []byte, f func(raws) *plan) *plan {
	var r raws
	if json.Unmarshal(body, &r) != nil || r == nil {
		return s.badJSON(body)
	}
	return f(r)
}

// embeddings returns vectors of length one that follow from the text.
func (s *Server) embeddings(r raws) *plan {
	inputs := r.strings("input")
	if inputs == nil {
		inputs = []string{r.text("input")}
	}
	size := 8
	if n := r.number("dimensions"); n > 0 && n <= 4096 {
		size = n
	}
	tokens := 0
	data := []any{}
	for i, in := range inputs {
		tokens += len(in)/4 + 1
		vec := vector(in, size)
		var v any = vec
		if r.text("encoding_format") == "base64" {
			p := make([]byte, 0, 4*size)
			for _, f := range vec {
				p = binary.LittleEndian.AppendUint32(p, math.Float32bits(f))
			}
			v = base64.StdEncoding.EncodeToString(p)
		}
		data = append(data, object{"object": "embedding", "index": i, "embedding": v})
	}
	return s.json(200, []byte(js(object{"object": "list", "data": data, "model": r.text("model"), "usage": object{"prompt_tokens": tokens, "total_tokens": tokens}})))
}

func vector(text string, size int) []float32 {
	h := fnv.New64a()
	io.WriteString(h, text)
	x := h.Sum64()
	v := make([]float32, size)
	sum := 0.0
	for i := range v {
		x = x*6364136223846793005 + 1442695040888963407
		f := float64(int32(x>>32)) / math.MaxInt32
		v[i] = float32(f)
		sum += f * f
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// rerank scores documents by the words that they share with the query.
func (s *Server) rerank(r raws) *plan {
	docs := r.strings("documents")
	results := []any{}
	type scored struct {
		index int
		score float64
	}
	var all []scored
	want := strings.Fields(strings.ToLower(r.text("query")))
	for i, d := range docs {
		n := 0
		for _, w := range want {
			if strings.Contains(strings.ToLower(d), w) {
				n++
			}
		}
		all = append(all, scored{i, float64(n+1) / float64(len(want)+2)})
	}
	for len(all) > 0 { // best first, ties in their order
		best := 0
		for i := range all {
			if all[i].score > all[best].score {
				best = i
			}
		}
		results = append(results, object{"index": all[best].index, "relevance_score": all[best].score, "document": object{"text": docs[all[best].index]}})
		all = append(all[:best], all[best+1:]...)
	}
	if n := r.number("top_n"); n > 0 && n < len(results) {
		results = results[:n]
	}
	return s.json(200, []byte(js(object{"id": s.id("rerank-"), "model": r.text("model"), "results": results, "usage": object{"total_tokens": len(docs)}})))
}

// transcription reads a form with a file and says how long it is.
func (s *Server) transcription(h *head, body []byte) *plan {
	typ, params, err := mime.ParseMediaType(h.get("Content-Type"))
	if err != nil || typ != "multipart/form-data" {
		return s.failure(400, "", "expected multipart/form-data")
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	model, format, name, size := "", "json", "", -1
	for range 64 {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.failure(400, "", "malformed form: "+err.Error())
		}
		p, err := io.ReadAll(part)
		if err != nil {
			return s.failure(400, "", "malformed form: "+err.Error())
		}
		switch part.FormName() {
		case "model":
			model = string(p)
		case "response_format":
			format = string(p)
		case "file":
			name, size = part.FileName(), len(p)
		}
	}
	if size < 0 {
		return s.failure(400, "", "Missing required parameter: 'file'.")
	}
	text := "A simulated transcript by " + model + " of " + name + ", " + strconv.Itoa(size) + " bytes."
	if format == "text" {
		return s.typed(200, "text/plain; charset=utf-8", text+"\n")
	}
	return s.json(200, []byte(js(object{"text": text, "usage": object{"type": "duration", "seconds": size/16000 + 1}})))
}
