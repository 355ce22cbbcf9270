package catalog

import (
	"regexp"
	"slices"
	"strings"
)

// What a model can be given, in OpenClaw's words.
const (
	InputText  = "text"
	InputImage = "image"
	InputAudio = "audio"
	InputVideo = "video"
)

// The names by which OpenClaw knows a custom endpoint's models, in its order:
// vision first, since kimi-vl and llama-3.2-vision are both.
var (
	visionIDs = regexp.MustCompile(`(^|[^a-z0-9])(gpt-4o|gpt-4\.1|gpt-[5-9]|o[134]([^a-z0-9]|$)|claude-(3|4|sonnet|opus|haiku)|gemini)` +
		`|qwen.*vl|vision|llava|pixtral|internvl|mllama|minicpm-v|glm-4v` +
		`|(^|[/-])vl([/-]|$)`)
	textIDs = regexp.MustCompile(`(^|[^a-z0-9])(llama|phi)([^a-z]|$)|codellama|deepseek|mistral|mixtral|kimi|moonshot|codestral|devstral|qwq|qwen`)
)

// InfersImages says whether an id is that of a model which reads images, as far
// as names tell; known is false where they do not. It is OpenClaw's guess for
// endpoints that say nothing, and no more than that: mistral-small-3.1 reads
// images, whatever its name suggests.
func InfersImages(id string) (image, known bool) {
	id = strings.ToLower(id)
	switch {
	case visionIDs.MatchString(id):
		return true, true
	case textIDs.MatchString(id):
		return false, true
	}
	return false, false
}

// InferredInput is the input of a model of which nobody says it.
func InferredInput(id string) []string {
	if image, _ := InfersImages(id); image {
		return []string{InputText, InputImage}
	}
	return []string{InputText}
}

// Takes says whether a model reads parts of a kind, and whether that is known:
// from the configuration, the catalogue or the server rather than from its id.
// Of an id that suggests nothing it is taken to: the backend may say no.
//
// Lists of hosted models name images and leave the rest out, so that audio and
// video are known to be too much for near models only.
func (m *Model) Takes(kind string) (takes, known bool) {
	switch {
	case slices.Contains(m.Input, kind):
		return true, !m.InputGuessed
	case kind != InputImage:
		near := m.Provider != nil && m.Provider.Near
		return !near || m.InputGuessed, near && !m.InputGuessed
	case !m.InputGuessed:
		return false, true
	}
	_, suggests := InfersImages(m.ID)
	return !suggests, false
}
