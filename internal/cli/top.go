package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/sluicefs/sluice/api"
	"github.com/sluicefs/sluice/internal/sandbox"
)

func newTopCmd(env *Env) *cobra.Command {
	var daemon connection
	var interval time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a running daemon",
		Long: `Show what a daemon does, every moment anew: its mounts with their rates of
operations, bytes read and bytes fetched, how long requests take, and those
that wait longest. q ends it.`,
		Example: "  sluice top\n  sluice top --once\n  sluice top --socket https://host:9010 --token-file token",
		Args:    needArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usageError{fmt.Errorf("--interval is %v: want more than 0", interval)}
			}
			client, err := daemon.dial()
			if err != nil {
				return err
			}
			defer client.Close()
			if once {
				s, err := sample(cmd.Context(), client)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(env.Stdout, topView(topSample{}, s, 0))
				return err
			}
			in, out := stdinFile(env), inherited(env.Stdout)
			if f, ok := out.(*os.File); !ok || !sandbox.IsTerminal(in) || !sandbox.IsTerminal(f) {
				return errors.New("this needs a terminal (--once prints one look and needs none)")
			}
			ctx, stop := untilEnded(cmd.Context())
			defer stop()
			m := &topModel{ctx: ctx, client: client, interval: max(interval, 100*time.Millisecond)}
			_, err = tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
			if ctx.Err() != nil { // ended by a signal
				return nil
			}
			return err
		},
	}
	daemon.add(cmd.Flags(), env)
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "time between two looks")
	cmd.Flags().BoolVar(&once, "once", false, "print one look and end, without a terminal")
	return cmd
}

// topSample is one look at a daemon.
type topSample struct {
	at        time.Time
	daemon    api.Daemon
	mounts    []api.Mount
	latencies []api.Latency
	requests  []api.Request
}

func sample(ctx context.Context, c *api.Client) (topSample, error) {
	s := topSample{at: time.Now()}
	var err error
	if s.daemon, err = c.Daemon(ctx); err != nil {
		return s, err
	}
	if s.mounts, err = c.Mounts(ctx); err != nil {
		return s, err
	}
	if s.latencies, err = c.Latencies(ctx); err != nil {
		return s, err
	}
	s.requests, err = c.Requests(ctx)
	return s, err
}

// topModel is the state of the live view.
type topModel struct {
	ctx       context.Context // of the command, which the model does not outlive
	client    *api.Client
	interval  time.Duration
	last, now topSample
	err       error // of the newest look
	height    int   // of the terminal, 0 if that is not known
}

// topLook is a look that was taken, topTick asks for the next one.
type (
	topLook struct {
		sample topSample
		err    error
	}
	topTick struct{}
)

// Init takes the first look.
func (m *topModel) Init() tea.Cmd { return m.look }

func (m *topModel) look() tea.Msg {
	s, err := sample(m.ctx, m.client)
	return topLook{s, err}
}

// Update takes in a look, a key or a new size of the terminal.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		}
	case tea.WindowSizeMsg:
		m.height = msg.Height
	case topTick:
		return m, m.look
	case topLook:
		if m.err = msg.err; m.err == nil {
			m.last, m.now = m.now, msg.sample
		}
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return topTick{} })
	}
	return m, nil
}

// View shows the newest look.
func (m *topModel) View() tea.View {
	v := tea.NewView("")
	switch {
	case m.err != nil:
		v.Content = "daemon: " + m.err.Error()
	case !m.now.at.IsZero():
		v.Content = topView(m.last, m.now, m.height)
	}
	v.AltScreen = true
	return v
}

// topView writes a look, with rates since the one before, in at most height
// lines; 0 is no limit.
func topView(before, now topSample, height int) string {
	var b strings.Builder
	d := now.daemon
	fmt.Fprintf(&b, "%s  %s on %s  up %s  %d mounts  %s\n", "sluice "+d.Version, d.State, d.Mountpoint,
		durationText(time.Duration(d.UptimeSeconds*1e9)), d.Mounts, d.Transport)
	seconds := now.at.Sub(before.at).Seconds()
	if before.at.IsZero() {
		seconds = max(d.UptimeSeconds, 1)
	}
	rows := [][]string{{"MOUNT", "OPS/S", "READ/S", "FETCHED/S", "HITS", "ERRORS", "OPEN", "BUSY"}}
	old := map[string]api.Mount{}
	for _, m := range before.mounts {
		old[m.Path] = m
	}
	for _, m := range busiest(now.mounts, old) {
		rows = append(rows, topRow(old[m.Path], m, seconds))
	}
	_ = printTable(&b, rows)
	rows = [][]string{{"", "", "", "", ""}, {"OPERATION", "COUNT", "MEAN", "P50", "P99"}}
	for _, l := range now.latencies {
		rows = append(rows, []string{
			l.Operation, fmt.Sprint(l.Count), durationText(time.Duration(l.MeanNS)),
			durationText(time.Duration(l.P50NS)), durationText(time.Duration(l.P99NS)),
		})
	}
	_ = printTable(&b, rows)
	if len(now.requests) > 0 {
		rows = [][]string{{"", "", "", ""}, {"WAITING", "OPERATION", "MOUNT", "PID"}}
		for _, r := range now.requests[:min(5, len(now.requests))] {
			rows = append(rows, []string{durationText(time.Duration(r.AgeNS)), r.Operation, orDash(r.Mount), fmt.Sprint(r.PID)})
		}
		_ = printTable(&b, rows)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	if height > 1 && len(lines) > height {
		lines = lines[:height-1]
	}
	return strings.Join(lines, "")
}

// busiest orders mounts by what they did since the last look.
func busiest(ms []api.Mount, old map[string]api.Mount) []api.Mount {
	all := slices.Clone(ms)
	slices.SortStableFunc(all, func(a, b api.Mount) int {
		return int(total(b)-total(old[b.Path])) - int(total(a)-total(old[a.Path]))
	})
	return all
}

// total is how many operations a mount has had.
func total(m api.Mount) (n uint64) {
	for _, k := range m.Operations {
		n += k
	}
	return n
}

func topRow(old, m api.Mount, seconds float64) []string {
	rate := func(n int64) int64 { return int64(float64(max(n, 0)) / max(seconds, 0.001)) }
	failed := uint64(0)
	for _, n := range m.Errors {
		failed += n
	}
	fetched, hits := "-", "-"
	if m.Image != nil {
		var was int64
		if old.Image != nil {
			was = old.Image.FetchedBytes
		}
		fetched = bytesText(rate(m.Image.FetchedBytes - was))
		hits = fmt.Sprintf("%.0f %%", 100*m.Image.HitRate)
	}
	return []string{
		m.Path, fmt.Sprint(rate(int64(total(m) - total(old)))), bytesText(rate(int64(m.ReadBytes - old.ReadBytes))),
		fetched, hits, fmt.Sprint(failed), fmt.Sprint(m.Open), durationText(time.Duration(rate(m.BusyNS - old.BusyNS))),
	}
}
