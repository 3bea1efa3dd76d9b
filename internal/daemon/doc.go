// Package daemon serves many images and directories under one FUSE mount, and
// is told over a unix socket what to serve. It takes nydusd's place: it speaks
// its HTTP API and reads its configurations; and it has an API of its own,
// whose types are in package api.
//
// A [Daemon] has a union (package vfs), a server (package fuse), and a table
// of what is mounted. It is always in one of four states:
//
//	INIT     nothing is mounted; a predecessor's session can be taken over
//	READY    mounted, or taken over, and not serving
//	RUNNING  serving
//	STOPPED  over
//
// Locks: Daemon.mu guards state and table; opening and closing of images
// happens outside it, under opMu, which serialises changes.
package daemon
