package imagefs

// ClearsSetID tells a union that it need not take set-id bits away from files
// that are written to: none are.
func (f *FS) ClearsSetID() bool { return true }
