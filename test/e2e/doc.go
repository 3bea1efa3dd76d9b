// Package e2e tests the whole program as a user runs it: processes, signals,
// a real kernel mount, real registries. The test binary is the program: it
// starts itself with an environment variable that makes it run the command
// line in place of the tests.
package e2e
