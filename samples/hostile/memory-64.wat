;; case: G04
;; does: has a 64-bit memory
;; world: module
;; gets: refused
(module (memory i64 1))
