// Package converter tests that the converter of nydus-snapshotter runs the
// binary, called nydus-image, unchanged: it is a module of its own because
// the converter brings containerd along.
package converter
