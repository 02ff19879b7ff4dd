;; A task for WASI preview 1: the first letter of its last argument says what it does.
;; fine, bad, loop, print, echo, memory, trap
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "all is well\n")
  (data (i32.const 32) "no such table\n")
  (func $say (param $fd i32) (param $at i32) (param $bytes i32)
    (i32.store (i32.const 64) (local.get $at))
    (i32.store (i32.const 68) (local.get $bytes))
    (drop (call $write (local.get $fd) (i32.const 64) (i32.const 1) (i32.const 72))))
  (func $echo (local $n i32)
    (loop $more
      (i32.store (i32.const 64) (i32.const 16384))
      (i32.store (i32.const 68) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72)))
      (local.set $n (i32.load (i32.const 72)))
      (if (local.get $n) (then
        (call $say (i32.const 1) (i32.const 16384) (local.get $n))
        (br $more)))))
  (func (export "_start") (local $what i32)
    (drop (call $sizes (i32.const 64) (i32.const 68)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    ;; The pointer to the last argument, and its first byte.
    (local.set $what (i32.load8_u (i32.load
      (i32.add (i32.const 1020) (i32.mul (i32.load (i32.const 64)) (i32.const 4))))))
    (if (i32.eq (local.get $what) (i32.const 98)) (then ;; b
      (call $say (i32.const 2) (i32.const 32) (i32.const 14))
      (call $exit (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 108)) (then ;; l
      (call $say (i32.const 1) (i32.const 0) (i32.const 12))
      (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $what) (i32.const 112)) (then ;; p
      (loop $for_ever (call $say (i32.const 1) (i32.const 0) (i32.const 12)) (br $for_ever))))
    (if (i32.eq (local.get $what) (i32.const 101)) (then (call $echo) (return)))
    (if (i32.eq (local.get $what) (i32.const 109)) (then ;; m
      (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
      unreachable))
    (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
    (call $say (i32.const 1) (i32.const 0) (i32.const 12))))
