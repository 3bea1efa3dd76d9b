package cli

import (
	"fmt"
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progressBar shows bytes done, the rate and the remaining time on standard
// error, if that is a terminal. The zero value shows nothing. The methods are
// for one goroutine.
type progressBar struct {
	all *mpb.Progress
	bar *mpb.Bar
}

// newProgressBar begins a bar that is called what.
func newProgressBar(env *Env, what string, quiet bool) *progressBar {
	if quiet || !isTerminal(env.Stderr) {
		return &progressBar{}
	}
	return drawProgress(env.Stderr, what)
}

func drawProgress(w io.Writer, what string) *progressBar {
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithAutoRefresh())
	bar := p.AddBar(0,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(what, decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)),
	)
	return &progressBar{p, bar}
}

// total says how many bytes there are.
func (p *progressBar) total(n int64) {
	if p.bar != nil {
		p.bar.SetTotal(n, false)
	}
}

// add says that n more bytes are done.
func (p *progressBar) add(n int64) {
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// end takes the bar away.
func (p *progressBar) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.all.Wait()
	}
}

// fetchProgress shows how an image is fetched as a whole; where there is no
// terminal it says once that this will take a while.
func fetchProgress(env *Env) func(what string, size int64) (func(int64), func()) {
	return func(what string, size int64) (func(int64), func()) {
		if !isTerminal(env.Stderr) {
			fmt.Fprintf(env.Stderr, "sluice: %s is a plain OCI image: fetching all of its %s\n", what, bytesText(size))
		}
		bar := newProgressBar(env, "fetch", false)
		bar.total(size)
		return bar.add, bar.end
	}
}
