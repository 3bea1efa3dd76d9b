// Loopback mounts a directory of this machine in another place:
//
//	loopback [-o OPTIONS] [-debug] DIR MOUNTPOINT
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sluicefs/sluice/fs"
)

func main() {
	mountOptions := flag.String("o", "default_permissions", "mount options, with commas between them")
	timeout := flag.Duration("timeout", time.Second, "how long the kernel may cache names and attributes")
	debug := flag.Bool("debug", false, "print all requests")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: loopback [-o OPTIONS] [-debug] DIR MOUNTPOINT")
	}
	root, err := fs.NewLoopbackRoot(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	opts := &fs.Options{EntryTimeout: timeout, AttrTimeout: timeout, NullPermissions: true}
	opts.AllowOther = os.Geteuid() == 0
	opts.Debug = *debug
	opts.FsName, opts.Name = flag.Arg(0), "loopback"
	if *mountOptions != "" {
		opts.MountOptions.Options = strings.Split(*mountOptions, ",")
	}
	server, err := fs.Mount(flag.Arg(1), root, opts)
	if err != nil {
		log.Fatal(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-end
		if err := server.Unmount(); err != nil {
			log.Print(err)
		}
	}()
	server.Wait()
}
