/* All kernels, one unit of compilation. Each takes a pointer to its arguments alone, 8 bytes each, and returns
 * DONE or NO_MEMORY: then it wrote nothing.
 */
#include "attention.c"
#include "recurrent.c"
#include "residual.c"
#include "selection.c"

int rows_of_a_block(void) { return R; }
