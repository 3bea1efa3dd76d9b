// Package containerd runs a container from an image that has not been
// downloaded, with containerd, nydus-snapshotter and runc as they are and our
// binary in nydusd's and nydus-image's place.
//
// The programs are taken from the directory that SLUICE_CONTAINERD_BIN names;
// ./build puts them into one.
package containerd
