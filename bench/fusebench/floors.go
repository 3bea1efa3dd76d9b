package main

import (
	"fmt"
	"slices"
	"strings"
)

// A floor is what a server of ours has to reach in a row.
type floor struct {
	row, server string
	what        metric
	against     string // the server whose figure it is a multiple of; "" for a plain number
	bound       float64
}

type metric int

const (
	rate   metric = iota // at least
	cpu                  // at most; of server and client together
	p50                  // at most, microseconds
	served               // at most, microseconds of the server for each operation
	added                // at most, microseconds of the server for each operation more than the other
)

var kinds = [...]struct {
	name string
	of   func(*sample) float64
}{
	rate:   {"rate", func(s *sample) float64 { return s.Rate }},
	cpu:    {"processor time", func(s *sample) float64 { return s.Total }},
	p50:    {"p50", func(s *sample) float64 { return s.P50 }},
	served: {"server's time", func(s *sample) float64 { return s.Server }},
	added:  {"server's time more", func(s *sample) float64 { return s.Server }},
}

// The servers that floors are against.
const (
	peerGo    = "go-fuse"
	peerRing  = "libfuse-uring"
	tmpfs     = "native"
	ourRings  = "sluice"
	ourDevice = "sluice-device"
	ourPass   = "sluice-pass"
	ourDirect = "sluice-direct"
)

var floors = slices.Concat([]floor{
	{"getattr1", ourRings, rate, peerGo, 3.5}, {"getattr1", ourRings, rate, peerRing, 1.15},
	{"getattr1", ourRings, p50, "", 8}, {"getattr1-cpu0", ourRings, p50, "", 8}, {"getattr1-cpu1", ourRings, p50, "", 8},
	{"getattr8", ourRings, rate, peerGo, 2.5}, {"getattr8", ourRings, rate, peerRing, 1},
	{"stat1", ourRings, rate, peerGo, 4}, {"stat1", ourRings, rate, peerRing, 1.2},
	{"stat8", ourRings, rate, peerGo, 4}, {"stat8", ourRings, rate, peerRing, 1.3},
	{"stat-warm", ourRings, rate, tmpfs, 0.9},
	{"open", ourRings, rate, peerGo, 3}, {"open", ourRings, rate, peerRing, 1.3},
	{"open-warm", ourRings, served, "", 0.05}, // no request
	{"openread", ourRings, rate, peerGo, 5}, {"openread", ourRings, rate, peerRing, 2},
	{"openread-warm", ourRings, rate, tmpfs, 0.7},
	{"create", ourRings, rate, peerGo, 5}, {"create", ourRings, rate, peerRing, 1.4},
	{"direct1", ourRings, rate, peerGo, 3}, {"direct1", ourRings, rate, peerRing, 1.1}, {"direct1", ourPass, rate, tmpfs, 0.9},
	{"direct8", ourRings, rate, peerGo, 4}, {"direct8", ourRings, rate, peerRing, 1.1}, {"direct8", ourPass, rate, tmpfs, 0.9},
	{"seqread", ourRings, rate, peerGo, 1.5}, {"seqread", ourRings, rate, peerRing, 1.3},
	{"seqread", ourDirect, rate, tmpfs, 0.6}, {"seqread", ourPass, rate, tmpfs, 0.95},
	{"seqwrite", ourRings, rate, peerGo, 1.3}, {"seqwrite", ourRings, rate, peerRing, 1.05},
	{"seqwrite", ourDirect, rate, tmpfs, 0.65}, {"seqwrite", ourPass, rate, tmpfs, 0.95},
	{"readdir", ourRings, rate, peerGo, 14}, {"readdir", ourRings, rate, peerRing, 1.8},
	{"readdir-warm", ourRings, rate, tmpfs, 1},
	{"find", ourRings, cpu, peerGo, 0.45}, {"find", ourRings, cpu, peerRing, 0.6},
	{"tar", ourRings, cpu, peerGo, 0.2}, {"tar", ourRings, cpu, peerRing, 0.6},
	{"untar", ourRings, cpu, peerGo, 0.2}, {"untar", ourRings, cpu, peerRing, 0.6},
}, deviceFloors(), daemonFloors())

// deviceFloors are those of the device alone: half as much again as go-fuse
// (two thirds of its processor time for the trees), and no less than libfuse.
func deviceFloors() (all []floor) {
	for _, r := range rows {
		if r.mode&(fixed|own) != 0 || r.cpu > 0 || r.needs != "" {
			continue
		}
		f := floor{r.name, ourDevice, rate, peerGo, 1.5}
		g := floor{r.name, ourDevice, rate, "", 1}
		if r.mode == trees {
			f.what, f.bound = cpu, 0.67
			g.what = cpu
		}
		all = append(all, f)
		for _, peer := range []string{"libfuse", "libfuse-new", "libfuse-single"} {
			g.against = peer
			all = append(all, g)
		}
	}
	return all
}

var floorHead = []string{"row", "server", "figure", "against", "floor", "measured", "held"}

func (all *results) floors(line style) string {
	lines := all.floorLines(line)
	if lines == "" {
		return ""
	}
	var b strings.Builder
	line(&b, floorHead...)
	return b.String() + lines
}

func (all *results) floorLines(line style) string {
	var b strings.Builder
	for _, f := range floors {
		r := all.find(f.row, f.server)
		if r == nil {
			continue
		}
		kind := kinds[f.what]
		got := 0.0
		if f.against == "" {
			got = middle(len(r.Samples), func(i int) float64 { return kind.of(&r.Samples[i]) })
		} else {
			base := all.find(f.row, f.against)
			if base == nil {
				continue
			}
			got = ratio(r, base, kind.of)
			if f.what == added {
				got = middle(min(len(r.Samples), len(base.Samples)), func(i int) float64 { return r.Samples[i].Server - base.Samples[i].Server })
			}
		}
		sign, held, unit := "≤", got <= f.bound, " µs"
		if f.what == rate {
			sign, held = "≥", got >= f.bound
		}
		if f.against != "" && f.what != added {
			unit = "x"
		}
		verdict := "no"
		if held {
			verdict = "yes"
		}
		line(&b, f.row, f.server, kind.name, f.against, fmt.Sprintf("%s %g%s", sign, f.bound, unit), fmt.Sprintf("%.2f%s", got, unit), verdict)
	}
	return b.String()
}
