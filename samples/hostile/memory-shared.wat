;; case: G04
;; does: has a shared memory
;; world: module
;; gets: refused
(module (memory 1 2 shared))
