package shaping

import (
	"slices"
	"strings"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Flag is one compat flag in effect for a model.
type Flag struct {
	Name  string
	Value string // as JSON
	From  string // where it was said: "profile ollama"
	Off   string // the line of the configuration that turns it off
}

// Flags returns the flags that are said for the model, in the order of
// catalog.Compat.
func (s *Shape) Flags() []Flag {
	var all []Flag
	s.compat.Each(func(name string, value any) {
		all = append(all, Flag{Name: name, Value: catalog.FlagText(value), From: s.because(name), Off: s.off(name, "")})
	})
	return all
}

// silentWords are the values of word flags by which they do nothing.
var silentWords = map[string]string{
	"responseFormatInPrompt": "off", "assistantPrefill": "none", "reasoningField": "reasoning_content", "unsupportedImages": "error",
	"toolSchemaProfile": "none", "thinkTags": "keep", "toolText": "off", "answerReasoning": "as-is", "thinkingFormat": "openai", "cacheControlFormat": "none",
}

// off is the line of the configuration, above all other places, that turns a
// flag off for this model; empty where there is none. Of a list that names the
// member at path, only that goes.
func (s *Shape) off(flag, path string) string {
	var now any
	s.compat.Each(func(name string, value any) {
		if name == flag {
			now = value
		}
	})
	var to any
	switch v := now.(type) {
	case nil:
		// A rule that holds unless somebody says otherwise.
		to = strings.HasPrefix(flag, "supports") && flag != "supportsUsageInStreaming"
	case bool:
		to = !v
	case []string:
		rest := slices.Clone(v)
		name := path[strings.LastIndexByte(path, '.')+1:]
		if slices.Contains(rest, name) {
			rest = slices.DeleteFunc(rest, func(x string) bool { return x == name })
		} else {
			rest = rest[:0]
		}
		to = rest
	case map[string]string, map[string]any:
		to = map[string]string{}
	case string:
		word, ok := silentWords[flag]
		if flag == "maxTokensField" {
			word, ok = "max_tokens", true
			if v == word {
				word = "max_completion_tokens"
			}
		}
		if !ok {
			return ""
		}
		to = word
	default:
		return ""
	}
	return settingOf(s.model.Ref(), flag) + ": " + catalog.FlagText(to)
}

// Explain says what a shaped request changes, as the function Explain does, and
// how each change is turned off.
func (s *Shape) Explain(body []byte, r *Request) []Line {
	lines := Explain(body, r)
	for i := range lines {
		l := &lines[i]
		at := slices.IndexFunc(s.rules, func(r Rule) bool { return r.Name == l.Rule && (r.from == "" || r.from == l.Source) })
		if at < 0 {
			continue // of a translation
		}
		rule := &s.rules[at]
		l.Known = rule.Source
		if asked, ok := s.fitted(l); ok {
			l.Off = settingOf(s.model.Ref(), "supportedReasoningEfforts") + ": " + catalog.FlagText(append(slices.Clone(s.effort.list), asked))
		} else if flag, ok := strings.CutPrefix(rule.Setting, "compat."); ok {
			for i := 0; s.because(flag) == "" && i < len(rule.also); i++ {
				if s.because(rule.also[i]) != "" {
					flag = rule.also[i]
				}
			}
			l.Off = s.off(flag, l.Path)
		} else if rule.from == "" && strings.HasPrefix(rule.Setting, "proxy.") {
			l.Off = rule.Setting + ": false"
		} else if rule.Setting != "" {
			l.Off = "remove " + rule.Setting
		}
	}
	return lines
}

// fitted returns the effort that a client asked for where it was fitted to those
// that the model takes: it is one more of them that lets it through.
func (s *Shape) fitted(l *Line) (asked string, ok bool) {
	if l.Rule != "reasoning-effort" || s.effort.why != "" || l.Before == "" || l.Before[0] != '"' {
		return "", false
	}
	text, ok := wire.AppendUnquoted(nil, []byte(l.Before))
	return string(text), ok
}

// AnswerRule is one thing that is done to answers of the model.
type AnswerRule struct {
	Flag
	Does string // for people
}

// answerWords say what the values of a flag do to answers.
var answerWords = map[string]map[string]string{
	"thinkTags": {
		`"split"`:  "<think> blocks in the text are told as reasoning",
		`"opened"`: "the text up to </think> is told as reasoning, also where no <think> opens it",
	},
	"toolText": {
		`"bracketed"`: "a text that is nothing but [name]…[END_TOOL_REQUEST] calls of the request's own tools becomes those calls",
		`"all"`:       "a text that is nothing but calls of the request's own tools, in any known spelling, becomes those calls",
	},
	"repairToolCalls": {"true": "ids, indexes, names, arguments and finish reasons of tool calls are put right"},
	"answerReasoning": {
		`"reasoning_content"`: "a chat client gets reasoning as reasoning_content",
		`"reasoning"`:         "a chat client gets reasoning as reasoning",
		`"both"`:              "a chat client gets reasoning as reasoning_content and as reasoning",
		`"drop"`:              "a chat client gets no reasoning",
	},
	"toolCallArgumentsEncoding":   {`"html-entities"`: "HTML entities in arguments of tool calls are decoded"},
	"visibleReasoningDetailTypes": {"": "reasoning details of these types are told as text"},
}

// AnswerRules returns what is done to answers of the model because of its flags.
// Answers of a backend that is not asked by chat stay as they are.
func (s *Shape) AnswerRules() []AnswerRule {
	if s.backend != wire.Chat {
		return nil
	}
	var all []AnswerRule
	for _, f := range s.Flags() {
		words := answerWords[f.Name]
		does, ok := words[f.Value]
		if !ok {
			does, ok = words[""]
		}
		if ok {
			all = append(all, AnswerRule{f, does})
		}
	}
	return all
}

// readElsewhere are the dialects of backends in which a flag is read elsewhere than in a
// rule that names it.
var readElsewhere = map[string][]wire.Dialect{
	"supportsDeveloperRole":            {wire.Responses},
	"supportsJsonSchemaResponseFormat": {wire.Messages},
	"thinkingFormat":                   {wire.Messages},
	"supportsReasoningEffort":          {wire.Messages},
	"supportedReasoningEfforts":        {wire.Messages},
	"reasoningEffortMap":               {wire.Messages},
	"supportsTemperature":              {wire.Messages},
	"supportsLongCacheRetention":       {wire.Messages},
	"requiresPairedToolResults":        {wire.Responses, wire.Messages},

	// Answers are mended where they are a chat backend's.
	"thinkTags": {wire.Chat}, "toolText": {wire.Chat}, "repairToolCalls": {wire.Chat}, "answerReasoning": {wire.Chat},
	"toolCallArgumentsEncoding": {wire.Chat}, "visibleReasoningDetailTypes": {wire.Chat},
}

// Idle returns the flags that the configuration says of a model and that change
// nothing, since they are about another dialect than the one in which its backend
// is asked: thinkTags where the api is openai-responses.
func Idle(m *catalog.Model) []string {
	to := m.Dialect()
	if to == 0 {
		return nil
	}
	of := map[string][]wire.Dialect{}
	for flag, dialects := range readElsewhere {
		of[flag] = append(of[flag], dialects...)
	}
	for _, r := range Rules() {
		if flag, ok := strings.CutPrefix(r.Setting, "compat."); ok {
			for _, flag := range append([]string{flag}, r.also...) {
				of[flag] = append(of[flag], r.Dialects...)
			}
		}
	}
	var idle []string
	for _, c := range [...]*catalog.Compat{&m.Provider.Compat, &m.Compat, &m.OwnCompat} {
		c.Each(func(name string, _ any) {
			if of[name] != nil && !slices.Contains(of[name], to) && !slices.Contains(idle, name) {
				idle = append(idle, name)
			}
		})
	}
	return idle
}
