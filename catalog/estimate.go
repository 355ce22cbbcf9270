package catalog

// A token is taken for four bytes of text. UTF-8 weighs the scripts already: the
// three bytes of a Chinese character come to three quarters of a token, which is
// about what current tokenizers make of it, so that nothing is won by counting
// characters. What is left over between one tokenizer and another, and between
// code and prose, is learned from what the backends report.
const (
	bytesPerToken = 4
	marginPercent = 10

	// An image costs what its model makes of it: 85 tokens at the lowest detail,
	// some thousands at the highest.
	tokensPerImage      = 1000
	tokensPerImageLeast = 85

	// roomSpare is kept free of what the window leaves: a template says things
	// of its own around the messages.
	roomSpare = 64
	// AnswerLeast is what an answer is worth trying with: max_tokens is not made
	// less than it for want of room.
	AnswerLeast = 256
	// answerShare of a window is room enough for an answer, whatever a client asks
	// for: many ask for the most that any model can say, with every request, and
	// would never be answered by a model with a window of that size.
	answerShare = 8
)

// The bounds of what a Gauge learns, as tokens for each four bytes.
const (
	gaugeMin = 0.2
	gaugeMax = 3
	// leastUnknown is what prompts come to at the least as long as nothing was
	// learned: 60 % of the estimate.
	leastUnknown = 0.66
	// leastShare of what was reported is what the next prompt is taken to come to
	// at the least: code, prose and tables differ by about so much.
	leastShare = 0.9

	gaugeWeight = 0.3 // of a new report
	gaugeRise   = 0.2 // of the way that the least goes up with one; down it goes at once
	// GaugeBytesMin is the text from which on a report says something of texts
	// rather than of what a template adds.
	GaugeBytesMin = 4 << 10
)

// Prompt is what is known of a prompt's size without a tokenizer. TextBytes are
// those of all strings of the request: messages, tools with their schemas, and
// the names of members, which stand for what templates add.
type Prompt struct {
	TextBytes int64
	Images    int
}

// units are the prompt's texts in tokens of four bytes.
func (p Prompt) units() float64 { return float64(p.TextBytes / bytesPerToken) }

// Estimate is a prompt in tokens: Tokens is more than most prompts of that size
// come to, Least less than nearly all.
type Estimate struct{ Tokens, Least int }

// Gauge is what was learned of how a model counts. The zero value has learned
// nothing. It is a value: Learn returns the next one.
type Gauge struct {
	Mean  float64 // tokens for each four bytes of text; 0 until something was learned
	Least float64 // what recent prompts came to at the least
	Seen  int     // reports
}

// Estimate estimates a prompt.
func (g Gauge) Estimate(p Prompt) Estimate {
	mean, least := g.Mean, g.Least
	if g.Seen == 0 {
		mean, least = 1, leastUnknown
	}
	return Estimate{
		Tokens: int(p.units()*mean*(100+marginPercent)/100) + p.Images*tokensPerImage,
		Least:  int(p.units()*least) + p.Images*tokensPerImageLeast,
	}
}

// Expect returns what a prompt most likely comes to, without a margin.
func (g Gauge) Expect(p Prompt) int {
	mean := g.Mean
	if g.Seen == 0 {
		mean = 1
	}
	return int(p.units()*mean) + p.Images*tokensPerImage
}

// Learn takes in what a backend counted for a prompt. Prompts with images and
// short ones say nothing of texts and leave it as it is.
func (g Gauge) Learn(p Prompt, tokens int64) Gauge {
	if p.Images > 0 || p.TextBytes < GaugeBytesMin || tokens <= 0 {
		return g
	}
	seen := min(max(float64(tokens)/p.units(), gaugeMin), gaugeMax)
	if g.Seen == 0 {
		g.Mean, g.Least = seen, leastUnknown
	} else {
		g.Mean += gaugeWeight * (seen - g.Mean)
	}
	if low := seen * leastShare; low < g.Least {
		g.Least = low
	} else {
		g.Least += gaugeRise * (low - g.Least)
	}
	g.Seen++
	return g
}

// cutShare is how far below its least a report must be for the prompt to have
// been cut: text that repeats itself comes to little, too.
const cutShare = 0.6

// Cut says whether a backend that counted so few tokens cannot have read the
// whole prompt. Servers that cut say nothing of it: Ollama answers 60000 tokens
// at a window of 8192 with 200 and counts 8194.
func (g Gauge) Cut(p Prompt, tokens int64, window int) bool {
	if p.Images > 0 || p.TextBytes < GaugeBytesMin || tokens <= 0 {
		return false
	}
	e, n := g.Estimate(p), int(min(tokens, 1<<40))
	if n < int(float64(e.Least)*cutShare) {
		return true
	}
	// A prompt that ends exactly where the window does was made to.
	return window > 0 && n >= window-window/64 && n <= window+window/64 && e.Tokens > window+window/4
}

// EstimateTokens estimates a prompt for a model of which nothing was learned.
func EstimateTokens(textBytes int64, images int) int {
	return Gauge{}.Estimate(Prompt{textBytes, images}).Tokens
}

// Fit says how a prompt and its answer stand to a window.
type Fit uint8

// The fits, the best first.
const (
	Fits    Fit = iota // both, as estimated: an answer of which much more was asked, a part of it
	MayFit             // if the estimate is too high, or the answer is shorter than it may be
	TooLong            // not even the least that the prompt can come to
)

// Fit says whether a prompt and an answer of so many tokens (0 when nobody says)
// fit the window. An unknown one fits all.
func (win Window) Fit(e Estimate, output int) Fit {
	w := win.Effective
	switch {
	case w <= 0, e.Tokens <= w && min(output, max(AnswerLeast, w/answerShare)) <= w-e.Tokens: // a client may ask for any output
		return Fits
	case e.Least <= w && min(output, AnswerLeast) <= w-e.Least:
		return MayFit
	}
	return TooLong
}

// Room is what the window leaves for an answer, at least 1; 0 when the window is
// not known.
func (win Window) Room(e Estimate) int {
	w := win.Effective
	if w <= 0 {
		return 0
	}
	return max(1, w-e.Tokens-roomSpare)
}
