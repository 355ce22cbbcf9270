package sim

import (
	"time"

	"github.com/goccy/go-json"
)

// loads answers what loads and unloads models without asking them for anything:
// Ollama's generate with an empty prompt, as its source has it, and LM Studio's own
// API of 0.4, as its documentation has it. It is nil for everything else.
func (s *Server) loads(path string, body []byte) *plan {
	var r raws
	_ = json.Unmarshal(body, &r) // without a name it is not found
	id := r.text("model")
	switch {
	case s.kit.profile == Ollama && path == "/api/generate":
		if !s.knows(id) {
			return s.json(404, []byte(js(object{"error": "model '" + id + "' not found"}))).charset()
		}
		reason, wait := "load", time.Duration(0)
		if k := string(r["keep_alive"]); k == "0" || k == `"0"` {
			reason = "unload"
			s.unload(id)
		} else {
			wait = s.load(id)
		}
		p := s.json(200, []byte(js(object{"model": id, "created_at": "2026-11-22T05:38:40.123456Z", "response": "", "done": true, "done_reason": reason}))).charset()
		p.after = wait
		return p
	case s.kit.profile == LMStudio && path == "/api/v1/models/load":
		if !s.knows(id) {
			return s.json(404, []byte(js(object{"error": object{"type": "model_not_found", "message": "Model " + id + " not found in downloaded models"}})))
		}
		wait := s.load(id)
		p := s.json(200, []byte(js(object{"type": "llm", "instance_id": id, "load_time_seconds": wait.Seconds(), "status": "loaded"})))
		p.after = wait
		return p
	case s.kit.profile == LMStudio && path == "/api/v1/models/unload":
		id = r.text("instance_id")
		s.unload(id)
		return s.json(200, []byte(js(object{"instance_id": id})))
	}
	return nil
}

// load takes a model into memory and says how long that takes.
func (s *Server) load(id string) time.Duration {
	if s.firstUse(id) {
		return s.timing(id).Load
	}
	return 0
}

func (s *Server) unload(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loaded, id)
}
