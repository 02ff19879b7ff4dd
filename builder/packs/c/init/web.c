/* Answers / with a greeting: gilliam config GREETING=hello changes it. */
#include <gilliam/http.h>
#include <stdlib.h>
#include <string.h>

void gilliam_handle(gilliam_request *request, gilliam_response *response) {
  gilliam_set_header(response, "content-type", "text/plain; charset=utf-8");
  if (strcmp(gilliam_path(request), "/") != 0) {
    gilliam_status(response, 404);
    gilliam_print(response, "there is nothing at %s\n", gilliam_path(request));
    return;
  }
  const char *greeting = getenv("GREETING");
  gilliam_print(response, "%s from C\n", greeting ? greeting : "Hello");
}
