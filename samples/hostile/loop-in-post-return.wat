;; case: G02
;; does: is a worker that loops after it has returned, where it should clean up
;; world: component
;; limits: cpu=50
;; gets: runs
(component
  (core module $main
    (func (export "run") (result i32) (i32.const 0))
    (func (export "after") (param i32) (loop (br 0))))
  (core instance $running (instantiate $main))
  (func $run (result (result)) (canon lift (core func $running "run") (post-return (core func $running "after"))))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.12" (instance $exported)))
