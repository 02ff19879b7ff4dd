/* A web process in C: a greeting, a variable of the configuration, an echo, a large answer as it is made. */
#include <gilliam/http.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void echo(gilliam_request *request, gilliam_response *response) {
  const char *type = gilliam_header(request, "Content-Type");
  if (type != NULL) gilliam_set_header(response, "content-type", type);
  char part[4096];
  long count;
  while ((count = gilliam_read(request, part, sizeof part)) > 0) gilliam_write(response, part, (size_t)count);
}

void gilliam_handle(gilliam_request *request, gilliam_response *response) {
  const char *path = gilliam_path(request);
  bool is_post = strcmp(gilliam_method(request), "POST") == 0;
  if (is_post && strcmp(path, "/echo") == 0) {
    echo(request, response);
    return;
  }
  gilliam_set_header(response, "content-type", "text/plain; charset=utf-8");
  if (strcmp(path, "/") == 0) {
    const char *greeting = getenv("GREETING");
    gilliam_print(response, "%s from C\n", greeting ? greeting : "Hello");
  } else if (strcmp(path, "/query") == 0) {
    gilliam_print(response, "%s\n", gilliam_query(request));
  } else if (strcmp(path, "/lines") == 0) {
    for (int line = 1; line <= 100000; line++) {
      if (gilliam_print(response, "%d\n", line) != 0) return;
    }
  } else {
    gilliam_status(response, 404);
    gilliam_print(response, "there is nothing at %s\n", path);
  }
}
