package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-json"
)

// quirksOfMessages are those of roles, contents and the order of messages.
func quirksOfMessages() []Quirk {
	return []Quirk{
		{Name: "string-content-only", Summary: "Refuses content that is a list of parts.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(i int, m raws) *plan {
				if kindOfJSON(m["content"]) != "array" {
					return nil
				}
				return s.failure(400, "", fmt.Sprintf("messages[%d].content: invalid type: sequence, expected a string", i))
			})
		}},
		{Name: "text-parts-only", Summary: "Refuses parts of content that are not text.", Source: recorded, Profiles: in(MLX), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachPart(a, func(i, _ int, p raws) *plan {
				switch {
				case p.text("type") == "text":
					return nil
				case s.kit.profile == MLX:
					return s.modelSide("Only 'text' content type is supported.")
				}
				return s.failure(400, "", fmt.Sprintf("messages[%d].content: Only 'text' content type is supported.", i))
			})
		}},
		{Name: "file-parts-400", Summary: "Refuses parts with a file or with sound.", Source: ofSGLang, Profiles: in(SGLang, Ollama), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachPart(a, func(i, n int, p raws) *plan {
				if typ := p.text("type"); typ != "file" && typ != "input_audio" {
					return nil
				}
				if s.kit.profile == Ollama {
					return s.failure(400, "", "invalid message format")
				}
				return s.failure(400, "Bad Request", fmt.Sprintf("messages.%d.content.%d: Input should be 'text', 'image_url', 'video_url' or 'audio_url'", i, n))
			})
		}},
		{Name: "remote-image-400", Summary: "Refuses an image that is an address instead of its data.", Source: ofOllama, Profiles: in(Ollama), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachPart(a, func(_, _ int, p raws) *plan {
				url := p.sub("image_url").text("url") + p.text("image_url")
				if p.text("type") != "image_url" || strings.HasPrefix(url, "data:") {
					return nil
				}
				return s.failure(400, "", "invalid image input")
			})
		}},
		{Name: "null-content-400", Summary: "Refuses a message without content that calls no tool.", Source: ofOllama, Profiles: in(Ollama), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(_ int, m raws) *plan {
				if m.has("content") || len(m.list("tool_calls")) > 0 {
					return nil
				}
				return s.failure(400, "", "invalid message content type: <nil>")
			})
		}},
		{Name: "user-content-null-400", Summary: "Refuses a user message without content.", Source: ofSGLang, Profiles: in(SGLang), refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(i int, m raws) *plan {
				if m.has("content") || m.text("role") != "user" {
					return nil
				}
				return s.failure(400, "Bad Request", fmt.Sprintf("messages.%d.content: Input should be a valid string", i))
			})
		}},
		{Name: "empty-content-400", Summary: "Refuses a message with empty content that calls no tool.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(i int, m raws) *plan {
				if len(m.list("tool_calls")) > 0 || strings.TrimSpace(contentText(m)) != "" || m.text("role") == "tool" {
					return nil
				}
				return s.failure(400, "", fmt.Sprintf("Invalid request: the message at position %d with role '%s' must not be empty", i, m.text("role")))
			})
		}},
		{Name: "messages-empty-400", Summary: "Refuses an empty list of messages.", Source: recorded, Profiles: in(Ollama, SGLang), refuse: func(s *Server, a *ask, _ string) *plan {
			switch {
			case len(a.list("messages")) > 0:
				return nil
			case s.kit.profile == Ollama:
				return s.failure(400, "", "[] is too short - 'messages'").charset()
			}
			return s.failure(400, "Bad Request", "Messages cannot be empty.")
		}},
		{Name: "message-field-400", Summary: "Refuses members of messages that it does not know, naming one at a time.", Source: ofHosted, refuse: messageField,
			Takes: "members to refuse; when empty, all but role, content, name, tool_calls and tool_call_id"},

		{Name: "no-developer-role", Summary: "Refuses the role developer.", Source: recorded, Profiles: in(MLX), refuse: func(s *Server, a *ask, value string) *plan {
			i := slices.Index(a.roles, "developer")
			switch {
			case i < 0:
				return nil
			case value == "template":
				return s.template("Unexpected message role.")
			}
			return s.failure(400, "", fmt.Sprintf("messages[%d].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`", i))
		}, Takes: "decoder or template: who refuses", Value: "decoder", choices: []string{"decoder", "template"}, own: map[Profile]string{MLX: "template"}},
		{Name: "unknown-role-400", Summary: "Refuses roles that OpenAI's API does not have.", Source: recorded, Profiles: in(MLX, SGLang), refuse: unknownRole},
		{Name: "system-first", Summary: "Refuses a system message that is not the first message.", Source: "Qwen's chat template", refuse: func(s *Server, a *ask, _ string) *plan {
			for i, role := range a.roles {
				if i > 0 && (role == "system" || role == "developer") {
					return s.template("System message must be at the beginning.")
				}
			}
			return nil
		}},
		{Name: "user-first", Summary: "Refuses a conversation that does not begin with the user.", Source: ofTemplate, refuse: func(s *Server, a *ask, _ string) *plan {
			for _, role := range a.roles {
				switch role {
				case "system", "developer":
					continue
				case "user":
					return nil
				}
				return s.template("Conversation must start with a user message.")
			}
			return nil
		}},
		{Name: "alternating-roles", Summary: "Refuses two messages of one role in a row.", Source: "Gemma's and Mistral's chat templates", refuse: alternatingRoles},
		{Name: "assistant-after-tool", Summary: "Refuses a user message right after a tool's result.", Source: "Mistral's API", refuse: func(s *Server, a *ask, _ string) *plan {
			for i := 1; i < len(a.roles); i++ {
				if a.roles[i] == "user" && a.roles[i-1] == "tool" {
					return s.failure(400, "", "Unexpected role 'user' after role 'tool'")
				}
			}
			return nil
		}},
		{Name: "paired-tool-results", Summary: "Refuses calls without results and results without calls.", Source: "OpenAI's API", refuse: pairedToolResults},
		{Name: "tool-result-name-400", Summary: "Refuses a tool's result without a name.", Source: ofHosted, refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(i int, m raws) *plan {
				if m.text("role") != "tool" || m.text("name") != "" {
					return nil
				}
				return s.failure(400, "", fmt.Sprintf("contents[%d].parts[0].function_response.name: Name cannot be empty.", i))
			})
		}},
		{Name: "mistral-tool-ids", Summary: "Refuses ids of calls that are not nine letters and digits.", Source: "Mistral's API", refuse: mistralToolIDs},
		{Name: "tool-id-length-400", Summary: "Refuses earlier calls whose id is longer than so many characters.", Source: "OpenAI's API", Takes: "how many it takes", Value: "64", refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(i int, m raws) *plan {
				for n, c := range m.list("tool_calls") {
					if most, id := s.kit.number("tool-id-length-400"), c.text("id"); len(id) > most {
						at := fmt.Sprintf("messages[%d].tool_calls[%d].id", i, n)
						return s.mistaken(mistake{status: 400, param: at, code: "string_above_max_length",
							message: fmt.Sprintf("Invalid '%s': string too long. Expected a string with maximum length %d, but got a string with length %d instead.", at, most, len(id))})
					}
				}
				return nil
			})
		}},
		{Name: "bad-arguments-400", Summary: "Refuses an earlier call whose arguments are no JSON.", Source: ofMLX, Profiles: in(MLX), refuse: badArguments},
		{Name: "reasoning-content-required", Summary: "Refuses earlier assistant messages without their reasoning_content.", Source: "DeepSeek's API", refuse: func(s *Server, a *ask, _ string) *plan {
			return s.eachMessage(a, func(_ int, m raws) *plan {
				if m.text("role") != "assistant" || m["reasoning_content"] != nil {
					return nil
				}
				return s.failure(400, "", "The `reasoning_content` in the thinking mode must be passed back to the API.")
			})
		}},
	}
}

// eachMessage returns the first refusal of a message.
func (s *Server) eachMessage(a *ask, f func(i int, m raws) *plan) *plan {
	for i, m := range a.list("messages") {
		if p := f(i, m); p != nil {
			return p
		}
	}
	return nil
}

// eachPart returns the first refusal of a part of a message's content.
func (s *Server) eachPart(a *ask, f func(i, n int, part raws) *plan) *plan {
	return s.eachMessage(a, func(i int, m raws) *plan {
		for n, part := range m.list("content") {
			if p := f(i, n, part); p != nil {
				return p
			}
		}
		return nil
	})
}

// modelSide refuses what fails in the model's code rather than the server's.
func (s *Server) modelSide(message string) *plan {
	if s.has("failures-404") {
		return s.failure(404, "", message)
	}
	return s.failure(400, "", message)
}

// template refuses what a chat template raises, as the profile tells it.
func (s *Server) template(message string) *plan {
	switch s.kit.profile {
	case LlamaCPP:
		return s.failure(500, "server_error", "\n------------\nWhile executing CallExpression at line 85, column 32 in source:\n...\n            ^\nError: Jinja Exception: "+message)
	case SGLang:
		return s.failure(500, "", "Internal server error: "+message)
	case LMStudio:
		return s.failure(400, "", "Error rendering prompt with jinja template: \""+message+"\".")
	}
	return s.modelSide(message)
}

func messageField(s *Server, a *ask, value string) *plan {
	refused := namesIn(value)
	return s.eachMessage(a, func(i int, m raws) *plan {
		for _, key := range m.names() {
			known := slices.Contains([]string{"role", "content", "name", "tool_calls", "tool_call_id"}, key)
			if value == "" && known || value != "" && !slices.Contains(refused, key) {
				continue
			}
			return s.mistaken(mistake{status: 400, message: fmt.Sprintf("'messages.%d' : for 'role:%s' the following must be satisfied[('messages.%d' : property '%s' is unsupported)]", i, m.text("role"), i, key),
				param: fmt.Sprintf("messages[%d].%s", i, key)})
		}
		return nil
	})
}

func unknownRole(s *Server, a *ask, _ string) *plan {
	for _, role := range a.roles {
		switch strings.ToLower(role) {
		case "system", "user", "assistant", "tool", "developer":
			continue
		case "function", "latest_reminder":
			if s.kit.profile == SGLang {
				continue
			}
		}
		if s.kit.profile == MLX {
			return s.template("Unexpected message role.")
		}
		return s.failure(400, "Bad Request", "Unknown role '"+role+"'")
	}
	return nil
}

// alternatingRoles: after an optional system message the user and the assistant
// take turns; a tool's results stand between an assistant's two turns.
func alternatingRoles(s *Server, a *ask, _ string) *plan {
	last := ""
	for i, role := range a.roles {
		switch {
		case i == 0 && role == "system", role == "tool":
			continue
		case role == last && !(role == "assistant" && a.roles[i-1] == "tool"):
			return s.template("Conversation roles must alternate user/assistant/user/assistant/...")
		}
		last = role
	}
	return nil
}

func pairedToolResults(s *Server, a *ask, _ string) *plan {
	var waiting []string
	missing := func() *plan {
		return s.mistaken(mistake{status: 400, message: "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: " +
			strings.Join(waiting, ", "), param: "messages"})
	}
	p := s.eachMessage(a, func(i int, m raws) *plan {
		if m.text("role") == "tool" {
			at := slices.Index(waiting, m.text("tool_call_id"))
			if at < 0 {
				//nolint:misspell // as OpenAI spells it
				return s.mistaken(mistake{status: 400, message: "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", param: fmt.Sprintf("messages.[%d].role", i)})
			}
			waiting = slices.Delete(waiting, at, at+1)
			return nil
		}
		if len(waiting) > 0 {
			return missing()
		}
		for _, c := range m.list("tool_calls") {
			waiting = append(waiting, c.text("id"))
		}
		return nil
	})
	if p == nil && len(waiting) > 0 {
		return missing()
	}
	return p
}

var nineLetters = regexp.MustCompile(`^[a-zA-Z0-9]{9}$`)

func mistralToolIDs(s *Server, a *ask, _ string) *plan {
	return s.eachMessage(a, func(_ int, m raws) *plan {
		ids := []string{}
		if m.text("role") == "tool" {
			ids = append(ids, m.text("tool_call_id"))
		}
		for _, c := range m.list("tool_calls") {
			ids = append(ids, c.text("id"))
		}
		for _, id := range ids {
			if !nineLetters.MatchString(id) {
				return s.failure(400, "", "Tool call id was "+id+" but must be a-z, A-Z, 0-9, with a length of 9.")
			}
		}
		return nil
	})
}

func badArguments(s *Server, a *ask, _ string) *plan {
	return s.eachMessage(a, func(_ int, m raws) *plan {
		for _, c := range m.list("tool_calls") {
			args := c.sub("function").text("arguments")
			if args != "" && !json.Valid([]byte(args)) {
				return s.modelSide("Expecting value: line 1 column 1 (char 0)")
			}
		}
		return nil
	})
}
