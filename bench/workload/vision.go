package workload

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"

	"nearside/bench/measure"
)

// Vision asks about small pictures that are made here: shapes on a noisy ground, no two
// alike, so that no cache of pictures has them.
type Vision struct {
	Images int // of a request
	Side   int // pixels of each side
	Output Length
	Stream bool
	Exact  bool
	Seed   uint64
}

// Name is for reports.
func (s *Vision) Name() string {
	return fmt.Sprintf("vision %d×%d px, %s", s.Images, s.Side, s.Output)
}

// Plan is what a session comes to: a token for each 28 by 28 pixels is what many models
// take, and none that is known takes fewer than 64.
func (s *Vision) Plan() (input, output, requests int) {
	return 24 + s.Images*max(64, s.Side*s.Side/(28*28)), s.Output.Middle(), 1
}

// Keep says that answers are not needed.
func (s *Vision) Keep() bool { return false }

// Session makes the n-th question.
func (s *Vision) Session(n int, salt string) Session {
	salt = fmt.Sprintf("%s/%d", salt, n)
	m := measure.Message{Role: "user", Text: "Which shapes are in the pictures, in which colours, and how many of each? Answer in one sentence for each picture."}
	for i := range s.Images {
		m.Images = append(m.Images, picture(s.Side, rand.New(rand.NewPCG(sum(salt), uint64(i)))))
	}
	return &single{&Request{Turn: 1, Prefix: sum(salt), Prompt: measure.Prompt{Messages: []measure.Message{m}, Output: s.Output.draw(random(s.Seed, n)), Exact: s.Exact, Stream: s.Stream}}}
}

// picture is a PNG file with up to four discs and squares.
func picture(side int, rnd *rand.Rand) []byte {
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	for i := 0; i < len(img.Pix); i += 4 {
		// Noise in the lowest bits only: unlike, and still small when it is compressed.
		v := uint8(240 + rnd.IntN(8))
		img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = v, v, v, 255
	}
	colours := []color.RGBA{{200, 30, 30, 255}, {30, 140, 50, 255}, {30, 60, 200, 255}, {220, 180, 20, 255}}
	for range 1 + rnd.IntN(4) {
		c, disc := colours[rnd.IntN(len(colours))], rnd.IntN(2) == 0
		r := max(1, side/12+rnd.IntN(max(1, side/12)))
		x0, y0 := rnd.IntN(side), rnd.IntN(side)
		for y := max(0, y0-r); y < min(side, y0+r); y++ {
			for x := max(0, x0-r); x < min(side, x0+r); x++ {
				if !disc || (x-x0)*(x-x0)+(y-y0)*(y-y0) < r*r {
					img.SetRGBA(x, y, c)
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic("BUG: " + err.Error()) // to memory, of a picture that is not empty
	}
	return b.Bytes()
}
