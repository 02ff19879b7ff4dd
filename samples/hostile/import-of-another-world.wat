;; case: G23
;; does: imports what the platform does not have
;; world: component
;; gets: unlinked
(component
  (import "gilliam:admin/keys@1.0.0" (instance (export "steal" (func))))
  (core module $main (func (export "run") (result i32) (i32.const 0)))
  (core instance $running (instantiate $main))
  (func $run (result (result)) (canon lift (core func $running "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.12" (instance $exported)))
