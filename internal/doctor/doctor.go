// Package doctor looks at a machine and says what sluice can do on it, what
// is missing, and what each missing thing would give.
package doctor

// Status is the outcome of a check.
type Status string

// The outcomes: what is missing costs speed or comfort (Warn), or keeps
// sluice from mounting (Fail).
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Found  string `json:"found"`          // what is there
	Gives  string `json:"gives"`          // what it is good for
	Help   string `json:"help,omitempty"` // how to get it, if it is missing
}

// Worst returns the worst of the outcomes.
func Worst(all []Finding) Status {
	worst := OK
	for _, f := range all {
		if f.Status == Fail || f.Status == Warn && worst == OK {
			worst = f.Status
		}
	}
	return worst
}
