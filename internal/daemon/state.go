package daemon

import (
	"fmt"
	"log/slog"
	"sync"
)

// State is what a daemon is in the middle of.
type State string

// The states, in the order in which they are passed.
const (
	Init    State = "INIT"
	Ready   State = "READY"
	Running State = "RUNNING"
	Stopped State = "STOPPED"
)

// An event asks for a change of state.
type event string

const (
	evMount    event = "mount"
	evTakeOver event = "takeover"
	evStart    event = "start"
	evStop     event = "stop"
	evExit     event = "exit"
)

// transitions has what each event does in each state.
var transitions = map[State]map[event]State{
	Init:    {evMount: Ready, evTakeOver: Ready, evStop: Stopped, evExit: Stopped},
	Ready:   {evStart: Running, evStop: Stopped, evExit: Stopped},
	Running: {evStop: Stopped, evExit: Stopped},
	Stopped: {},
}

// A StateError is an event that came in the wrong state.
type StateError struct {
	State State
	Event string
}

func (e *StateError) Error() string {
	return fmt.Sprintf("%s is not possible in state %s", e.Event, e.State)
}

// machine keeps the state. Actions run under its lock, one at a time.
type machine struct {
	mu    sync.Mutex
	state State
	log   *slog.Logger

	view sync.RWMutex // guards state for those who only look
}

func (m *machine) current() State {
	m.view.RLock()
	defer m.view.RUnlock()
	return m.state
}

// do runs action if ev is possible now, and changes the state if that
// succeeds. cause is for the log.
func (m *machine) do(ev event, cause string, action func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.current()
	to, ok := transitions[from][ev]
	if !ok {
		m.log.Warn("event in the wrong state", "event", ev, "state", from, "cause", cause)
		return &StateError{from, string(ev)}
	}
	if err := action(); err != nil {
		m.log.Error("change of state failed", "event", ev, "from", from, "to", to, "cause", cause, "error", err)
		return err
	}
	m.view.Lock()
	m.state = to
	m.view.Unlock()
	m.log.Info("state", "event", ev, "from", from, "to", to, "cause", cause)
	return nil
}
