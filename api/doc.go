// Package api has the types of the daemon's own HTTP API and a client for it.
//
// The daemon listens on a unix socket. Its own resources are below /v1 and
// described in docs/api.md and docs/openapi.yaml; nydusd's API is below
// /api/v1 and /api/v2 on the same socket, and is not in this package.
//
//	c := api.Dial("/run/sluice/daemon.sock")
//	mounts, err := c.Mounts(ctx)
package api
